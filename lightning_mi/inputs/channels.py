"""Independent acoustic channels: gain, spectral tilt and noise of its own for every segment."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from lightning_mi.hashing import segment_names, uniform

Channels = Literal["shared", "independent"]
CHANNELS: tuple[Channels, ...] = get_args(Channels)

GAIN_DB = (-12.0, 6.0)
TILT_DB = (-3.0, 3.0)  # an octave
SNR_DB = (15.0, 40.0)
_PIVOT_HZ = 1000.0  # where the tilt neither raises nor lowers
_LOWEST_HZ = 60.0
_SAMPLES_AT_ONCE = 1 << 20  # bounds the temporaries at some 40 MB


def apply_independent_channels(samples: Tensor, keys: Tensor, sample_rate: float, seed: int = 0) -> Tensor:
    """Change gain, spectral tilt and noise of every segment, each by a draw of its own.

    The draws are hashes of ``keys``, of the segment's number and of the seed: the same at every epoch, in any
    batch, on any number of processes. Gain, tilt and the level of white noise under the segment are uniform in
    :data:`GAIN_DB`, :data:`TILT_DB` and :data:`SNR_DB`.

    Args:
        samples: ``(n, 1 + G, S)`` floating-point segments.
        keys: ``(n,)`` int64, what tells the anchors apart.
        sample_rate: In Hz.
        seed: Any integer.

    Returns:
        Segments of the same shape, dtype and device.

    Example:
        >>> import torch
        >>> samples = torch.sin(torch.arange(800) / 3).expand(2, 2, 800)
        >>> changed = apply_independent_channels(samples, torch.tensor([1, 2]), sample_rate=8000)
        >>> bool((changed[0, 0] - changed[0, 1]).abs().max() > 0.1)
        True
    """
    if samples.numel() == 0:  # a batch of short utterances: not every FFT takes none
        return samples
    rows = max(1, _SAMPLES_AT_ONCE // samples[0].numel())
    blocks = zip(samples.split(rows), keys.split(rows), strict=True)
    return torch.cat([_through(part, part_keys, sample_rate, seed) for part, part_keys in blocks])


def apply_tilt(samples: Tensor, tilt_db: Tensor, sample_rate: float) -> Tensor:
    """Tilt the spectrum: every octave above 1 kHz is raised by ``tilt_db``, every octave below it lowered.

    Frequencies below 60 Hz are changed as 60 Hz is.

    Args:
        samples: ``(..., S)`` float32.
        tilt_db: Slope in dB an octave, a float32 tensor that broadcasts with ``(..., 1)``.
        sample_rate: Samples a second.

    Returns:
        ``(..., S)`` float32 on the same device.

    Example:
        >>> import math, torch
        >>> tone = torch.sin(2 * math.pi * 4000 * torch.arange(16000) / 16000)  # two octaves above 1 kHz
        >>> round(float(apply_tilt(tone, torch.tensor(3.0), sample_rate=16000).std() / tone.std()), 2)  # 6 dB
        2.0
    """
    hertz = torch.fft.rfftfreq(samples.shape[-1], 1 / sample_rate, device=samples.device).clamp(min=_LOWEST_HZ)
    weight = _ratio(tilt_db * torch.log2(hertz / _PIVOT_HZ))
    spectra = torch.fft.rfft(samples.contiguous())  # torch 2.7 fails on expanded ones
    return torch.fft.irfft(spectra * weight, n=samples.shape[-1])


def _through(samples: Tensor, keys: Tensor, sample_rate: float, seed: int) -> Tensor:
    names = segment_names(keys.to(samples.device), samples.shape[1])
    gain, tilt, snr = (
        _between(uniform(names, 4 * seed + number), ends) for number, ends in enumerate((GAIN_DB, TILT_DB, SNR_DB))
    )
    speech = apply_tilt(samples.float(), tilt, sample_rate)
    # Uniform numbers of unit variance: as white as Gaussian ones, and a hash is enough.
    places = torch.arange(speech.shape[-1], device=speech.device)
    noise = (uniform(names[..., None] + places, 4 * seed + 3).float() - 0.5) * 12**0.5
    level = speech.square().mean(dim=-1, keepdim=True).sqrt()
    return ((speech + noise * level * _ratio(-snr)) * _ratio(gain)).to(samples.dtype)


def _between(share: Tensor, ends: tuple[float, float]) -> Tensor:
    low, high = ends
    return (low + (high - low) * share).float()[..., None]


def _ratio(decibels: Tensor) -> Tensor:
    return torch.pow(10.0, decibels / 20)
