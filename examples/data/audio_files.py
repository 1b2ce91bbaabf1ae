"""Waveforms: out of audio files, to another sample rate, and to 16-bit integers and back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lightning_mi.examples.data.extras import import_extra

Int16Array = npt.NDArray[np.int16]


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch to one thread.

    Its threads spin while they wait. On short waveforms they gain nothing, and beside another busy process
    (eSpeak NG) they make resampling four times as slow.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@lru_cache(maxsize=16)
def _resampler(source_rate: int, sample_rate: int) -> Any:
    # Kept, because computing the filter takes longer than applying it to a short utterance.
    return import_extra("torchaudio").transforms.Resample(source_rate, sample_rate)


def resample(waveform: Tensor, source_rate: int, sample_rate: int) -> Tensor:
    """Resample a ``(T,)`` float32 waveform from ``source_rate`` to ``sample_rate``, both in Hz."""
    if source_rate == sample_rate:
        return waveform
    resampled: Tensor = _resampler(source_rate, sample_rate)(waveform)
    return resampled


def read_audio(path: Path, sample_rate: int) -> Tensor:
    """Read an audio file as one channel.

    Args:
        path: A file in a format that soundfile reads; channels are averaged.
        sample_rate: Sample rate of the result in Hz.

    Returns:
        ``(T,)`` float32 in [-1, 1]; ``T`` is 0 if the file holds no sample.

    Raises:
        RuntimeError: soundfile cannot read the file.
        ValueError: The file holds NaN or infinite samples.
    """
    # soundfile rather than torchaudio.load: since torchaudio 2.9 the latter needs torchcodec as well.
    samples, source_rate = import_extra("soundfile").read(str(path), dtype="float32", always_2d=True)
    waveform = torch.from_numpy(samples).mean(dim=1)
    if not len(waveform):
        return waveform
    if not waveform.isfinite().all():
        raise ValueError(f"{path}: holds NaN or infinite samples")
    return resample(waveform, source_rate, sample_rate).clamp_(-1.0, 1.0)


def to_int16(waveform: Tensor) -> Int16Array:
    """Round a ``(T,)`` float waveform in [-1, 1] to int16; values outside the range are clipped."""
    scaled: Int16Array = (waveform * 32768).round().clamp(-32768, 32767).to(torch.int16).numpy()
    return scaled


def from_int16(samples: Int16Array) -> Tensor:
    """Turn ``(T,)`` int16 samples into a float32 waveform in [-1, 1); the result is a copy."""
    return torch.from_numpy(samples.astype(np.float32)).div_(32768)
