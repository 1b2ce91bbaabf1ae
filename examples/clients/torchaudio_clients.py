"""Clients of torchaudio's models."""

from __future__ import annotations

from typing import Any

import torch
import torchaudio
from torch import Tensor

from lightning_mi.examples.clients.client import Client, Module, client, padded, spectra

WAV2VEC2 = {
    "extractor_mode": "group_norm",
    "extractor_conv_layer_config": [(8, 10, 5), (8, 8, 4), (8, 4, 4)],
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
HUBERT = {
    "mask_prob": 0.8,
    "mask_selection": "static",
    "mask_other": 0.0,
    "mask_length": 3,
    "no_mask_overlap": False,
    "mask_min_space": 1,
    "mask_channel_prob": 0.0,
    "mask_channel_selection": "static",
    "mask_channel_other": 0.0,
    "mask_channel_length": 10,
    "no_mask_channel_overlap": False,
    "mask_channel_min_space": 1,
    "skip_masked": False,
    "skip_nomask": False,
    "num_classes": 10,
    "final_dim": 8,
    "feature_grad_mult": 0.1,
}


def _of_model(model: Any, encoder: Any = None, **arguments: object) -> Client:
    inner: Any = model if encoder is None else encoder
    return Client(Module(model), lambda x: inner.extract_features(x)[0][-1], arguments=dict(arguments))


@client("torchaudio", "wav2vec2_model")
def wav2vec2() -> Client:
    return _of_model(torchaudio.models.wav2vec2_model(**WAV2VEC2, aux_num_out=None))


@client("torchaudio", "wav2vec2_model with a head for characters")
def wav2vec2_asr() -> Client:
    return _of_model(torchaudio.models.wav2vec2_model(**WAV2VEC2, aux_num_out=9))


@client("torchaudio", "wavlm_model")
def wavlm() -> Client:
    settings = {**WAV2VEC2, "encoder_num_buckets": 8, "encoder_max_distance": 16}
    return _of_model(torchaudio.models.wavlm_model(**settings, aux_num_out=None))


@client("torchaudio", "hubert_pretrain_model")
def hubert() -> Client:
    model: Any = torchaudio.models.hubert_pretrain_model(**WAV2VEC2, **HUBERT)

    def step(module: Module, batch: tuple[Tensor, Tensor]) -> object:
        return module.model.wav2vec2(batch[0])

    return Client(Module(model, step=step), lambda x: model.wav2vec2.extract_features(x)[0][-1])


@client("torchaudio", "wav2vec2_model, its first convolution", "(B, T), lengths")
def wav2vec2_convolution() -> Client:
    made = _of_model(torchaudio.models.wav2vec2_model(**WAV2VEC2, aux_num_out=None))
    model: Any = made.module.model
    first = model.feature_extractor.conv_layers[0]
    made.by_hand = lambda x: first(x[:, None], None)[0].mT  # (B, D, T) to (B, T, D)
    made.arguments = {"layers": "model.feature_extractor.conv_layers.0"}
    return made


@client("torchaudio", "Conformer behind log spectra")
def conformer() -> Client:
    model: Any = torchaudio.models.Conformer(
        32, num_heads=2, ffn_dim=16, num_layers=1, depthwise_conv_kernel_size=3
    )

    def forward(module: Module, x: Tensor) -> object:
        frames = spectra(x)
        return module.model(frames, torch.full((len(x),), frames.shape[1]))

    return Client(
        Module(model, forward), lambda x: model(spectra(x), torch.full((len(x),), spectra(x).shape[1]))[0]
    )


@client("torchaudio", "Wav2Letter, its first convolution, before a ReLU in place")
def wav2letter() -> Client:
    model: Any = torchaudio.models.Wav2Letter(num_classes=9, input_type="waveform", num_features=1)
    convolution: Any = model.acoustic_model[0][0]
    return Client(
        Module(model, lambda module, x: module.model(x[:, None])),
        lambda x: convolution(x[:, None]).mT,
        arguments={"layers": "model.acoustic_model.0.0"},
    )


@client("torchaudio", "DeepSpeech behind log spectra")
def deepspeech() -> Client:
    model: Any = torchaudio.models.DeepSpeech(n_feature=32, n_hidden=16, n_class=9)
    return Client(
        Module(model, lambda module, x: module.model(spectra(x)[:, None])), lambda x: model(spectra(x)[:, None])
    )


@client("torchaudio", "ConvTasNet")
def conv_tasnet() -> Client:
    model: Any = torchaudio.models.ConvTasNet(2, 16, 16, 3, 8, 8, 2, 1)
    return Client(Module(model, lambda module, x: module.model(x[:, None])), error="is a waveform")


@client("torchaudio", "ConvTasNet's encoder, by its name", "(B, 1, T)")
def conv_tasnet_encoder() -> Client:
    model: Any = torchaudio.models.ConvTasNet(2, 16, 16, 3, 8, 8, 2, 1)
    return Client(
        Module(model),
        lambda x: model.encoder(x[:, None]).mT,
        lambda rows: padded(rows)[0][:, None],
        {"embed": "model.encoder"},
    )


@client("torchaudio", "HDemucs", "(B, T), lengths")
def hdemucs() -> Client:
    model: Any = torchaudio.models.hdemucs_low(["a", "b"])
    return Client(
        Module(model, lambda module, x: module.model(x[:, None].expand(-1, 2, -1))), error="is a waveform"
    )
