"""Models of torchaudio and transformers at a size for tests."""

from __future__ import annotations

import torchaudio
import transformers
from torch import nn

SMALL_WAV2VEC2 = {
    "extractor_mode": "group_norm",
    "extractor_conv_layer_config": [(8, 10, 5), (8, 8, 4)],
    "extractor_conv_bias": False,
    "encoder_embed_dim": 16,
    "encoder_projection_dropout": 0.1,
    "encoder_pos_conv_kernel": 8,
    "encoder_pos_conv_groups": 4,
    "encoder_num_layers": 2,
    "encoder_num_heads": 2,
    "encoder_attention_dropout": 0.1,
    "encoder_ff_interm_features": 16,
    "encoder_ff_interm_dropout": 0.1,
    "encoder_dropout": 0.1,
    "encoder_layer_norm_first": False,
    "encoder_layer_drop": 0.1,
}


def hubert_pretrain() -> nn.Module:
    """torchaudio's HuBERT for pre-training, at a size for tests."""
    return torchaudio.models.hubert_pretrain_model(
        **SMALL_WAV2VEC2,
        mask_prob=0.8,
        mask_selection="static",
        mask_other=0.0,
        mask_length=3,
        no_mask_overlap=False,
        mask_min_space=1,
        mask_channel_prob=0.0,
        mask_channel_selection="static",
        mask_channel_other=0.0,
        mask_channel_length=10,
        no_mask_channel_overlap=False,
        mask_channel_min_space=1,
        skip_masked=False,
        skip_nomask=False,
        num_classes=10,
        final_dim=8,
        feature_grad_mult=0.1,
    )


def transformers_config(kind: str) -> object:
    """Config of a transformers speech model ("Wav2Vec2", "Hubert", ...), at a size for tests."""
    return getattr(transformers, f"{kind}Config")(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8, 8),
        conv_stride=(5, 4),
        conv_kernel=(10, 8),
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=4,
        codevector_dim=8,
        proj_codevector_dim=8,
        num_codevectors_per_group=4,
        num_codevector_groups=2,
    )
