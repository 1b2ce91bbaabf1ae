"""Random speeds: every segment is played faster or slower about its centre, so pitch, formants and tempo move."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_mi.hashing import segment_names, uniform

_SAMPLES_AT_ONCE = 1 << 20  # bounds the temporaries at some 60 MB
_STREAM = 1 << 40  # apart from the seeds of the channels


def extent(length: int, speed: float) -> int:
    """Number of samples that a segment of ``length`` samples may need at up to ``speed`` times the speed.

    Example:
        >>> extent(8000, 1.3), extent(8000, 1.0)
        (10400, 8000)
    """
    # The same parity: both have their centre at a sample, or between two.
    return length + 2 * -(-round(length * (speed - 1)) // 2)


def draw_speeds(keys: Tensor, num_segments: int, speed: float, seed: int = 0) -> Tensor:
    """A speed for each segment, log-uniform between ``1 / speed`` and ``speed``.

    Args:
        keys: ``(n,)`` int64, what tells the anchors apart.
        num_segments: Number of segments of each anchor.
        speed: The highest, at least 1.
        seed: Any integer.

    Returns:
        ``(n, num_segments)`` float64 on the device of ``keys``: hashes, the same in any batch.

    Example:
        >>> import torch
        >>> speeds = draw_speeds(torch.arange(1000), 2, speed=1.3)
        >>> bool((speeds > 1 / 1.3).all()), bool((speeds < 1.3).all()), round(speeds.log().mean().item(), 1)
        (True, True, 0.0)
    """
    return speed ** (2 * uniform(segment_names(keys, num_segments), _STREAM + seed) - 1)


def play(samples: Tensor, speeds: Tensor, length: int) -> Tensor:
    """Play segments at their speeds: ``length`` samples about the centre of each, ``speeds`` times as fast.

    The spectrum is cut where it would fold over (above 1 / speed of its range), doubled in length and read off by
    cubic interpolation. At speed 1 nothing but the cut to ``length`` happens.

    Args:
        samples: ``(n, m, L)`` floating-point, with L at least ``length * speeds.max()``.
        speeds: ``(n, m)`` float64.
        length: Number of samples that are wanted.

    Returns:
        ``(n, m, length)`` of the same dtype and device.

    Source:
        Keys, "Cubic convolution interpolation for digital image processing", IEEE Trans. ASSP 29(6), 1981.

    Example:
        >>> import torch
        >>> tone = torch.sin(0.1 * torch.arange(-65, 66))[None, None]  # odd about its centre
        >>> fast = play(tone, torch.tensor([[1.25]]), 101)
        >>> bool((fast[0, 0, 20:81] - torch.sin(0.125 * torch.arange(-30, 31))).abs().max() < 0.01)
        True
    """
    if samples.numel() == 0:
        return samples[..., :length]
    rows = max(1, _SAMPLES_AT_ONCE // samples[0].numel())
    blocks = zip(samples.split(rows), speeds.to(samples.device).split(rows), strict=True)
    return torch.cat([_play(part.float(), part_speeds, length).to(samples.dtype) for part, part_speeds in blocks])


def _play(samples: Tensor, speeds: Tensor, length: int) -> Tensor:
    available = samples.shape[-1]
    spectrum = torch.fft.rfft(samples.contiguous())  # torch 2.7 fails on expanded ones
    share = torch.linspace(0, 1, spectrum.shape[-1], device=samples.device)  # of the Nyquist frequency
    spectrum = spectrum * (share * speeds[..., None].float() <= 1)
    if available % 2 == 0:
        spectrum[..., -1] /= 2  # stands for two bins in the longer spectrum
    twice = 2 * torch.fft.irfft(spectrum, n=2 * available)
    from_centre = torch.arange(length, dtype=torch.float64, device=samples.device) - (length - 1) / 2
    at = 2 * ((available - 1) / 2 + from_centre * speeds[..., None])
    before = at.floor().long()
    t = (at - before).float()
    a, b, c, d = (twice.gather(-1, (before + step) % (2 * available)) for step in (-1, 0, 1, 2))
    return b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
