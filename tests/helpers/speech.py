"""Synthetic speech for tests: utterances with a voice, chords that no two share, and near-duplicates of them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

SAMPLE_RATE = 1000


def utterances(count: int, seconds: float = 2.0, seed: int = 0) -> Tensor:
    """``(count, T)`` noise whose colour (a "voice") lasts for the utterance: segments share it and nothing else."""
    generator = torch.Generator().manual_seed(seed)
    length = round(seconds * SAMPLE_RATE)
    time = torch.arange(length) / SAMPLE_RATE
    pitch = 20 + 300 * torch.rand(count, 1, generator=generator)
    phase = 2 * math.pi * torch.rand(count, 1, generator=generator)
    noise = 0.3 * torch.randn(count, length, generator=generator)
    return torch.sin(2 * math.pi * pitch * time + phase) + noise


def chords(count: int, seconds: float = 1.2, seed: int = 0) -> Tensor:
    """``(count, T)`` chords of eight tones, in noise: no two are alike, and all segments of one are."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    share, level, phase = torch.rand(3, count, 8, 1, generator=generator)
    tones = level * torch.sin(2 * math.pi * ((20 + 450 * share) * time + phase))
    return tones.sum(dim=1) + 0.3 * torch.randn(count, len(time), generator=generator)


def syllables(count: int, seconds: float = 3.0, seed: int = 0) -> Tensor:
    """``(count, T)``: every 0.4 s one of four tones, whose frequencies no speed up to 1.3 confuses, in noise."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    hertz = torch.tensor([25.0, 60.0, 140.0, 330.0])
    place = (time / 0.4 + torch.rand(count, 1, generator=generator)).long()
    tones = torch.randint(4, (count, int(place.max()) + 1), generator=generator).gather(1, place)
    return torch.sin(2 * math.pi * hertz[tones] * time) + 0.05 * torch.randn(tones.shape, generator=generator)


def copies(x: Tensor, gain: float = 0.4, noise_db: float = -40.0, seed: int = 9) -> Tensor:
    """In another gain, with noise of that level."""
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    return gain * (x + 10 ** (noise_db / 20) * x.std(dim=1, keepdim=True) * noise)
