"""Utterances that can be told from one another, and copies of them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tests.helpers.support import SAMPLE_RATE


def chords(count: int, seconds: float = 1.2, seed: int = 0) -> Tensor:
    """``(count, T)`` chords of eight tones, in noise: no two are alike, and all segments of one are."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    share, level, phase = torch.rand(3, count, 8, 1, generator=generator)
    tones = level * torch.sin(2 * math.pi * ((20 + 450 * share) * time + phase))
    return tones.sum(dim=1) + 0.3 * torch.randn(count, len(time), generator=generator)


def copies(x: Tensor, gain: float = 0.4, noise_db: float = -40.0, seed: int = 9) -> Tensor:
    """In another gain, with noise of that level."""
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    return gain * (x + 10 ** (noise_db / 20) * x.std(dim=1, keepdim=True) * noise)
