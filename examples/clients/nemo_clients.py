"""Clients of NeMo's models, which are LightningModules themselves; in an environment of their own."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lightning_mi.examples.clients.client import Client, client, padded

FRONT_END = {
    "_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor",
    "sample_rate": 16_000,
    "normalize": "per_feature",
    "window_size": 0.025,
    "window_stride": 0.01,
    "features": 32,
    "n_fft": 512,
    "dither": 0.0,
    "pad_to": 16,
}
CONFORMER = {
    "_target_": "nemo.collections.asr.modules.ConformerEncoder",
    "feat_in": 32,
    "feat_out": -1,
    "n_layers": 1,
    "d_model": 16,
    "subsampling": "striding",
    "subsampling_factor": 4,
    "subsampling_conv_channels": 16,
    "ff_expansion_factor": 2,
    "n_heads": 2,
    "conv_kernel_size": 5,
}
MASKS = {
    "_target_": "nemo.collections.asr.modules.MaskedPatchAugmentation",
    "freq_masks": 1,
    "freq_width": 4,
    "patch_size": 16,
    "mask_patches": 0.5,
}


def collate(rows: list[Tensor]) -> tuple[Tensor, ...]:
    """As NeMo's datasets: signal, its length, transcript, its length."""
    values, lengths = padded(rows)
    return values, lengths, torch.zeros(len(rows), 1, dtype=torch.long), torch.ones(len(rows), dtype=torch.long)


def of(name: str) -> Callable[[Callable[[], Client]], None]:
    """Register a client, if NeMo is installed."""
    if importlib.util.find_spec("nemo") is None:
        return lambda make: None
    return client("nemo_toolkit", name, "signal, lengths, transcripts, lengths")


def _of_model(model: Any, by_layer: str | None = None) -> Client:
    """The model in its own validation loop, with a training step that moves its encoder."""

    def encode(x: Tensor) -> Tensor:
        features, lengths = model.preprocessor(input_signal=x, length=torch.full((len(x),), x.shape[1]))
        frames, lengths = model.encoder(audio_signal=features, length=lengths)
        return frames[..., : int(lengths.max())].mT  # (B, D, T) to (B, T, D), without the padding of `pad_to`

    def training_step(batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        return encode(batch[0]).square().mean()

    model.training_step = training_step
    model.validation_step = lambda batch, batch_idx, dataloader_idx=0: None
    model.on_validation_epoch_end = lambda *args, **kwargs: None
    model.multi_validation_epoch_end = lambda *args, **kwargs: None
    model.configure_optimizers = lambda: torch.optim.SGD(model.encoder.parameters(), lr=1e-3)
    return Client(model, encode, collate)


@of("EncDecCTCModel, a Conformer")
def ctc() -> Client:
    from nemo.collections.asr.models import EncDecCTCModel
    from omegaconf import DictConfig

    labels = list("abc ")
    decoder = {
        "_target_": "nemo.collections.asr.modules.ConvASRDecoder",
        "feat_in": 16,
        "num_classes": len(labels),
        "vocabulary": labels,
    }
    config = {"sample_rate": 16_000, "labels": labels, "preprocessor": FRONT_END, "encoder": CONFORMER}
    return _of_model(EncDecCTCModel(cfg=DictConfig(config | {"decoder": decoder})))


@of("SpeechEncDecSelfSupervisedModel, whose forward masks in evaluation")
def self_supervised() -> Client:
    from nemo.collections.asr.models import SpeechEncDecSelfSupervisedModel
    from omegaconf import DictConfig

    decoder = {
        "_target_": "nemo.collections.asr.modules.ConvASRDecoderReconstruction",
        "feat_in": 16,
        "feat_hidden": 16,
        "feat_out": 8,
        "stride_layers": 0,
        "non_stride_layers": 0,
        "stride_transpose": False,
    }
    loss = {
        "_target_": "nemo.collections.asr.losses.ContrastiveLoss",
        "in_dim": 32,
        "proj_dim": 8,
        "combine_time_steps": 4,
        "quantized_targets": True,
        "codebook_size": 8,
        "sample_from_same_utterance_only": True,
        "sample_from_non_masked": False,
        "num_negatives": 3,
    }
    config = {
        "preprocessor": FRONT_END,
        "spec_augment": MASKS,
        "encoder": CONFORMER,
        "decoder": decoder,
        "loss": loss,
        "sample_rate": 16_000,
    }
    return _of_model(SpeechEncDecSelfSupervisedModel(cfg=DictConfig(config)))
