"""Recurrent encoders: for voices (Resemblyzer), Spanish phones (Phonet), turns of speakers (pyannote)."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_mi.examples.data.extras import import_extra
from lightning_mi.examples.public_encoders.encoders.mel import SAMPLE_RATE, MelSpectrum
from lightning_mi.examples.public_encoders.encoders.packages import package_file

_LEVEL_DB = -30.0  # up to which Resemblyzer amplifies


class SpeakerLSTM(nn.Module):
    """Resemblyzer's voice encoder: three LSTM layers on mel powers, 10 ms apart.

    Source:
        Wan et al., "Generalized end-to-end loss for speaker verification", ICASSP 2018, arXiv:1710.10467.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mel = MelSpectrum(40, 400, 160)
        self.layers = nn.ModuleList(nn.LSTM(width, 256, batch_first=True) for width in (40, 256, 256))

    def forward(self, waveforms: Tensor) -> dict[str, Tensor]:
        """``(B, T)`` waveforms -> ``(B, T', 256)`` for each layer."""
        power = waveforms.square().mean(dim=1, keepdim=True).clamp(min=1e-12)
        x = self.mel(waveforms * (10 ** (_LEVEL_DB / 10) / power).sqrt().clamp(min=1))
        return _layer_by_layer(self.layers, x)


def resemblyzer() -> SpeakerLSTM:
    """With Resemblyzer's weights."""
    stored = torch.load(package_file("resemblyzer", "pretrained.pt"), map_location="cpu", weights_only=True)
    model = SpeakerLSTM()
    _fill_layers(model.layers, stored["model_state"])
    return model


class PhoneGRU(nn.Module):
    """Phonet: two bidirectional GRU layers and a dense one, on log-mel energies 10 ms apart.

    It was trained on blocks of 0.4 s; here it sees the segment as a whole.

    Source:
        Vasquez-Correa et al., "Phonet: a tool based on gated recurrent neural networks to extract phonological
        posteriors from speech", Interspeech 2019.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mel = MelSpectrum(33, 512, 160, window=400, slaney=False)
        self.mel.window = torch.ones(400)
        self.mean, self.scale = torch.full((34,), -3.0), torch.ones(34)
        self.norm = nn.BatchNorm1d(34, eps=1e-3)
        self.forwards = nn.ModuleList(KerasGRU(width, 128) for width in (34, 256))
        self.backwards = nn.ModuleList(KerasGRU(width, 128) for width in (34, 256))
        self.dense = nn.Linear(256, 128)

    def forward(self, waveforms: Tensor) -> dict[str, Tensor]:
        """``(B, T)`` waveforms -> ``(B, T', D)`` for each layer."""
        waveforms = waveforms - waveforms.mean(dim=1, keepdim=True)
        waveforms = waveforms / waveforms.abs().amax(dim=1, keepdim=True).clamp(min=1e-5)
        emphasised = torch.cat([waveforms[:, :1], waveforms[:, 1:] - 0.97 * waveforms[:, :-1]], dim=1)
        powers = self.mel.linear(emphasised) / 512
        energies = torch.cat([powers @ self.mel.filters, powers.sum(dim=2, keepdim=True)], dim=2)
        energies = energies.clamp(min=1e-10).log10()
        x = self.norm(((energies - self.mean) / self.scale).mT).mT
        taps = {}
        for number, pair in enumerate(zip(self.forwards, self.backwards, strict=True), start=1):
            x = torch.cat([pair[0](x), pair[1](x.flip(1)).flip(1)], dim=2)
            taps[f"GRU {number}"] = x
        taps["dense"] = F.relu(self.dense(x))
        return taps


class KerasGRU(nn.Module):
    """A GRU as Keras's ``reset_after=False`` has it: the gate is applied before the matrix."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(nn.init.xavier_uniform_(torch.empty(width, 3 * hidden)))
        self.recurrent = nn.Parameter(nn.init.orthogonal_(torch.empty(hidden, 3 * hidden)))
        self.bias = nn.Parameter(torch.zeros(3 * hidden))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T', D)`` -> ``(B, T', hidden)``."""
        hidden = len(self.recurrent)
        given = x @ self.kernel + self.bias
        state = x.new_zeros(len(x), hidden)
        states = []
        for now in given.unbind(dim=1):
            gates = torch.sigmoid(now[:, : 2 * hidden] + state @ self.recurrent[:, : 2 * hidden])
            update, reset = gates.chunk(2, dim=1)
            new = torch.tanh(now[:, 2 * hidden :] + (reset * state) @ self.recurrent[:, 2 * hidden :])
            state = update * state + (1 - update) * new
            states.append(state)
        return torch.stack(states, dim=1)


def phonet(file: str) -> PhoneGRU:
    """With the weights of Phonet: ``"model.h5"`` (phonological classes) or ``"phonemes.hdf5"`` (phonemes)."""
    h5py = import_extra("h5py")
    model = PhoneGRU()
    model.mean = torch.from_numpy(np.load(package_file("phonet", "models", "mu.npy")).mean(axis=0)).float()
    model.scale = torch.from_numpy(np.load(package_file("phonet", "models", "std.npy")).mean(axis=0)).float()
    stored: dict[str, Any] = {}
    with h5py.File(package_file("phonet", "models", file)) as weights:
        weights.visititems(
            lambda name, item: (
                stored.update({"/".join(name.split("/")[-2:]): torch.from_numpy(np.array(item)).float()})
                if isinstance(item, h5py.Dataset) and "optimizer" not in name
                else None
            )
        )
    with torch.no_grad():
        names = {
            "weight": "gamma",
            "bias": "beta",
            "running_mean": "moving_mean",
            "running_var": "moving_variance",
        }
        for ours, theirs in names.items():
            getattr(model.norm, ours).copy_(stored[f"batch_normalization_1/{theirs}:0"])
        for direction, cells in (("forward", model.forwards), ("backward", model.backwards)):
            for number, cell in enumerate(cells, start=1):
                at = f"{direction}_gru_{number}"
                for ours, theirs in (("kernel", "kernel"), ("recurrent", "recurrent_kernel"), ("bias", "bias")):
                    getattr(cell, ours).copy_(stored[f"{at}/{theirs}:0"])
        model.dense.weight.copy_(stored["time_distributed_1/kernel:0"].T)
        model.dense.bias.copy_(stored["time_distributed_1/bias:0"])
    return model


class SincLSTM(nn.Module):
    """pyannote's segmentation network: band-pass filters, two convolutions, four bidirectional LSTM layers.

    Frames are 16.9 ms apart.

    Source:
        Bredin, Laurent, "End-to-end speaker segmentation for overlap-aware resegmentation", Interspeech 2021,
        arXiv:2104.04045; the filters: Ravanelli, Bengio, "Speaker recognition from raw waveform with SincNet",
        SLT 2018, arXiv:1808.00158.
    """

    def __init__(self) -> None:
        super().__init__()
        self.wave_norm = nn.InstanceNorm1d(1, affine=True)
        self.low = nn.Parameter(torch.linspace(30, 7000, 40)[:, None])
        self.band = nn.Parameter(torch.full((40, 1), 150.0))
        self.convolutions = nn.ModuleList([nn.Conv1d(80, 60, 5), nn.Conv1d(60, 60, 5)])
        self.norms = nn.ModuleList(nn.InstanceNorm1d(width, affine=True) for width in (80, 60, 60))
        self.layers = nn.ModuleList(
            nn.LSTM(width, 128, batch_first=True, bidirectional=True) for width in (60, 256, 256, 256)
        )

    def forward(self, waveforms: Tensor) -> dict[str, Tensor]:
        """``(B, T)`` waveforms -> ``(B, T', D)`` for each layer."""
        x = self.wave_norm(waveforms[:, None])
        x = F.conv1d(x, self._filters()[:, None], stride=10).abs()
        x = F.leaky_relu(self.norms[0](F.max_pool1d(x, 3)))
        for convolution, norm in zip(self.convolutions, list(self.norms)[1:], strict=True):
            x = F.leaky_relu(norm(F.max_pool1d(convolution(x), 3)))
        return {"SincNet": x.mT, **_layer_by_layer(self.layers, x.mT)}

    def _filters(self) -> Tensor:
        """``(80, 251)``: 40 even and 40 odd band-pass filters."""
        low = 50 + self.low.abs()
        high = (low + 50 + self.band.abs()).clamp(50, SAMPLE_RATE / 2)
        times = 2 * torch.pi * torch.arange(-125, 0)[None] / SAMPLE_RATE
        window = torch.hamming_window(251, periodic=False)[:125]
        rising, falling = low @ times, high @ times
        even = (falling.sin() - rising.sin()) / (times / 2) * window
        odd = (rising.cos() - falling.cos()) / (times / 2) * window
        width = 2 * (high - low)
        filters = [
            torch.cat([even, width, even.flip(1)], dim=1),
            torch.cat([odd, torch.zeros_like(width), -odd.flip(1)], dim=1),
        ]
        return torch.cat(filters) / width.repeat(2, 1)


def pyannote_segmentation() -> SincLSTM:
    """With the weights that WhisperX carries."""
    path = package_file("whisperx", "assets", "pytorch_model.bin")
    stored = torch.load(path, map_location="cpu", weights_only=False, pickle_module=_Tensors)["state_dict"]
    model = SincLSTM()
    with torch.no_grad():
        model.wave_norm.weight.copy_(stored["sincnet.wav_norm1d.weight"])
        model.wave_norm.bias.copy_(stored["sincnet.wav_norm1d.bias"])
        model.low.copy_(stored["sincnet.conv1d.0.filterbank.low_hz_"])
        model.band.copy_(stored["sincnet.conv1d.0.filterbank.band_hz_"])
        for kind in ("weight", "bias"):
            for number, convolution in enumerate(model.convolutions, start=1):
                getattr(convolution, kind).copy_(stored[f"sincnet.conv1d.{number}.{kind}"])
            for number, norm in enumerate(model.norms):
                getattr(norm, kind).copy_(stored[f"sincnet.norm1d.{number}.{kind}"])
    _fill_layers(model.layers, stored)
    return model


def _layer_by_layer(layers: nn.ModuleList, x: Tensor) -> dict[str, Tensor]:
    taps = {}
    for number, layer in enumerate(layers, start=1):
        x, _ = layer(x)
        taps[f"LSTM {number}"] = x
    return taps


def _fill_layers(layers: nn.ModuleList, stored: Any) -> None:
    """Weights of an LSTM of several layers, one LSTM for each of them."""
    with torch.no_grad():
        for number, layer in enumerate(layers):
            for name, parameter in layer.named_parameters():
                parameter.copy_(stored[f"lstm.{name.replace('_l0', f'_l{number}')}"])


_NEEDED = {"OrderedDict", "_rebuild_tensor_v2", "_rebuild_parameter", "FloatStorage", "LongStorage"}


class _Tensors:
    """Reads the tensors of a checkpoint; whatever else it names becomes an empty class, and is not imported."""

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if name in _NEEDED and module in ("torch", "torch._utils", "collections"):
                return super().find_class(module, name)
            return type(name, (), {"__init__": lambda self, *_, **__: None, "__setstate__": lambda *_: None})

    @staticmethod
    def load(file: Any, **options: Any) -> Any:
        return _Tensors.Unpickler(file, **options).load()
