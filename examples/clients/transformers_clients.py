"""Clients of transformers' speech models, and batches as its feature extractors and collators make them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from lightning_mi.examples.clients.client import Client, Module, client, padded, spectra

SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "conv_dim": (8, 8, 8),
    "conv_stride": (5, 4, 4),
    "conv_kernel": (10, 8, 4),
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
    "codevector_dim": 8,
    "proj_codevector_dim": 8,
    "num_codevectors_per_group": 4,
    "num_codevector_groups": 2,
    "squeeze_factor": 2,
    "pos_att_type": ("p2c", "c2p"),
    "feature_projection_input_dim": 32,
    "xvector_output_dim": 16,
    "tdnn_dim": (16, 16),
    "tdnn_kernel": (3, 1),
    "tdnn_dilation": (1, 1),
}
KINDS = (
    "Wav2Vec2",
    "Hubert",
    "WavLM",
    "Data2VecAudio",
    "UniSpeech",
    "UniSpeechSat",
    "SEW",
    "SEWD",
    "Wav2Vec2Conformer",
)
HEADS = {"Wav2Vec2": ("ForPreTraining", "ForCTC", "ForSequenceClassification"), "WavLM": ("ForXVector",)}


def with_mask(rows: list[Tensor]) -> dict[str, Tensor]:
    """As transformers' feature extractors make batches."""
    values, lengths = padded(rows)
    return {
        "input_values": values,
        "attention_mask": (torch.arange(values.shape[1]) < lengths[:, None]).long(),
    }


def step(module: Module, batch: dict[str, Tensor]) -> Any:
    """A step that passes the batch on as it is, as the library's examples do."""
    return module.model(**batch)


def _model(kind: str, head: str = "Model") -> nn.Module:
    config = getattr(transformers, f"{kind}Config")(**SMALL)
    model: Any = getattr(transformers, f"{kind}{head}")(config)
    return model


def _register(kind: str, head: str) -> None:
    @client("transformers", f"{kind}{head}", "input_values, attention_mask")
    def make() -> Client:
        model: Any = _model(kind, head)
        return Client(Module(model, step=step), lambda x: model.base_model(x).last_hidden_state, with_mask)


for _kind in KINDS:
    for _head in ("Model", *HEADS.get(_kind, ())):
        _register(_kind, _head)


@client("transformers", "Wav2Vec2Model, all its layers", "input_values, attention_mask")
def layers() -> Client:
    model: Any = _model("Wav2Vec2")
    return Client(
        Module(model, step=step),
        lambda x: model(x, output_hidden_states=True).hidden_states[-1],
        with_mask,
        {"layers": "all"},
    )


@client("transformers", "Wav2Vec2Model, a convolution of its feature extractor", "input_values, attention_mask")
def convolution() -> Client:
    model: Any = _model("Wav2Vec2")
    return Client(
        Module(model, step=step),
        lambda x: model.feature_extractor(x).mT,
        with_mask,
        {"layers": "model.feature_extractor.conv_layers.2"},
    )


@client("transformers", "HubertModel whose forward normalises")
def normalised() -> Client:
    model: Any = _model("Hubert")

    def prepare(x: Tensor) -> Tensor:
        return (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True)

    return Client(
        Module(model, lambda module, x: module.model(prepare(x)).last_hidden_state),
        lambda x: model(prepare(x)).last_hidden_state,
    )


@client("transformers", "frozen HubertModel, a GRU behind it")
def front_end() -> Client:
    model: Any = _model("Hubert").requires_grad_(False)
    module: Any = Module(model, lambda module, x: module.gru(module.model(x).last_hidden_state)[0])
    module.gru = nn.GRU(16, 8, batch_first=True)
    return Client(module, lambda x: module.gru(model(x).last_hidden_state)[0])


# ---- codecs: `input_values` are (B, 1, T), and the mask's 1 is sound


def codec_batch(rows: list[Tensor]) -> dict[str, Tensor]:
    """As the codecs' feature extractors make batches."""
    values, lengths = padded(rows)
    return {"input_values": values[:, None], "padding_mask": torch.arange(values.shape[1]) < lengths[:, None]}


def _codec(name: str, make: Callable[[], nn.Module], by_hand: Callable[[Any, Tensor], Tensor]) -> None:
    @client("transformers", f"{name}, its encoder", "input_values (B, 1, T), padding_mask")
    def register() -> Client:
        model = make()
        return Client(
            Module(model, step=lambda module, batch: module.model.encoder(batch["input_values"])),
            lambda x: by_hand(model, x[:, None]),
            codec_batch,
            {"embed": "model.encoder"},
        )


_codec(
    "EncodecModel",
    lambda: transformers.EncodecModel(
        transformers.EncodecConfig(
            num_filters=4, hidden_size=8, upsampling_ratios=[8, 5, 4], codebook_size=16, num_lstm_layers=1
        )
    ),
    lambda model, x: model.encoder(x).mT,
)
_codec(
    "DacModel",
    lambda: transformers.DacModel(
        transformers.DacConfig(
            encoder_hidden_size=4, decoder_hidden_size=32, downsampling_ratios=[4, 8, 10], n_codebooks=2
        )
    ),
    lambda model, x: model.encoder(x).mT,
)
_codec(
    "MimiModel",
    lambda: transformers.MimiModel(
        transformers.MimiConfig(
            num_filters=4,
            hidden_size=16,
            upsampling_ratios=[8, 5, 4],
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            intermediate_size=16,
            head_dim=8,
            codebook_size=16,
            num_quantizers=2,
            num_semantic_quantizers=1,
            upsample_groups=16,
        )
    ),
    lambda model, x: model.encoder(x)[0].mT,
)


# ---- models of features


def frames(row: Tensor) -> Tensor:
    """100 frames a second of 32 features."""
    return spectra(row, hop=160)


def with_features(rows: list[Tensor]) -> dict[str, Tensor]:
    """Features ``(B, T, F)`` and their mask."""
    values, lengths = padded(rows)
    mask = torch.arange(values.shape[1]) < lengths[:, None]
    return {"input_features": values, "attention_mask": mask.long()}


OF_FRAMES = {"sample_rate": 100, "segment_seconds": 0.5}


@client("transformers", "Wav2Vec2BertModel", "input_features (B, T, F), attention_mask")
def wav2vec2_bert() -> Client:
    model: Any = _model("Wav2Vec2Bert")
    return Client(
        Module(model, step=step),
        lambda x: model(x).last_hidden_state,
        with_features,
        {"time_dim": 1, **OF_FRAMES},
        features=frames,
    )


@client("transformers", "Speech2TextForConditionalGeneration", "input_features (B, T, F), attention_mask")
def speech_to_text() -> Client:
    config = transformers.Speech2TextConfig(
        vocab_size=9,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        input_feat_per_channel=32,
        conv_channels=16,
    )
    model: Any = transformers.Speech2TextForConditionalGeneration(config)
    return Client(
        Module(model, step=lambda module, batch: module.model.model.encoder(batch["input_features"])),
        lambda x: model.model.encoder(x).last_hidden_state,
        with_features,
        {"time_dim": 1, **OF_FRAMES},
        features=frames,
    )


@client("transformers", "WhisperModel of half a second", "input_features (B, F, T)")
def whisper() -> Client:
    config = transformers.WhisperConfig(
        vocab_size=20,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        num_mel_bins=32,
        max_source_positions=25,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=3,
    )
    model: Any = transformers.WhisperModel(config)

    def encode(module: Module, batch: dict[str, Tensor]) -> Any:
        return module.model.encoder(batch["input_features"][..., :50])

    return Client(
        Module(model, step=encode),
        lambda x: model.encoder(x).last_hidden_state,
        lambda rows: {"input_features": padded(rows)[0].mT},
        {"time_dim": 2, **OF_FRAMES},
        features=frames,
    )


@client("transformers", "ASTModel, which takes 50 frames", "input_values (B, T, F)")
def ast() -> Client:
    config = transformers.ASTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_length=50,
        num_mel_bins=32,
        patch_size=8,
        frequency_stride=8,
        time_stride=8,
    )
    model: Any = transformers.ASTModel(config)

    def embed(module: Module, x: Tensor) -> Tensor:
        return module.model(x).pooler_output

    return Client(
        Module(model, step=lambda module, batch: module.model(batch["input_values"][:, :50])),
        lambda x: model(x).pooler_output,
        lambda rows: {"input_values": padded(rows)[0]},
        {"time_dim": 1, "embed": embed, **OF_FRAMES},
        features=frames,
    )


@client("transformers", "SeamlessM4Tv2's speech encoder, by its name", "input_features (B, T, F), attention_mask")
def seamless() -> Client:
    config = transformers.SeamlessM4Tv2Config(
        vocab_size=20,
        t2u_vocab_size=20,
        hidden_size=16,
        feature_projection_input_dim=32,
        speech_encoder_layers=1,
        speech_encoder_attention_heads=2,
        speech_encoder_intermediate_size=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        speech_encoder_chunk_size=20_000,
    )
    from transformers.models.seamless_m4t_v2.modeling_seamless_m4t_v2 import SeamlessM4Tv2SpeechEncoder

    model: Any = SeamlessM4Tv2SpeechEncoder(config)
    return Client(
        Module(model, step=step),
        lambda x: model(x).last_hidden_state,
        with_features,
        {"time_dim": 1, "embed": "model", **OF_FRAMES},
        features=frames,
    )


@client("transformers", "MoonshineModel's encoder, by its name", "input_values, attention_mask")
def moonshine() -> Client:
    config = transformers.MoonshineConfig(
        vocab_size=20,
        hidden_size=16,
        intermediate_size=16,
        encoder_num_hidden_layers=1,
        decoder_num_hidden_layers=1,
        encoder_num_attention_heads=2,
        decoder_num_attention_heads=2,
    )
    model: Any = transformers.MoonshineModel(config)
    return Client(
        Module(model, step=lambda module, batch: module.model.get_encoder()(batch["input_values"])),
        lambda x: model.get_encoder()(x).last_hidden_state,
        with_mask,
        {"embed": "model.encoder"},
    )
