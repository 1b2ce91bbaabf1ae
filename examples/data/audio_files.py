"""Waveforms: out of audio files, to another sample rate, and to 16-bit integers and back."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lightning_mi.examples.data.extras import import_extra

Int16Array = npt.NDArray[np.int16]

_BLOCK = 1 << 16  # samples of each channel
_MOST_PHASES = 1 << 20
_LOWEST_RATE, _HIGHEST_RATE = 1_000, 384_000  # Hz; what is outside is a broken header
_CANCELLED = 1e-3  # power of the mean of channels to the mean of their powers, -30 dB


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
    """Resample a ``(T,)`` float32 waveform from ``source_rate`` to ``sample_rate``, both in Hz.

    torchaudio's filter grows with the product of both rates without their common factor: 6 GB from 11127 to
    16000 Hz. Beyond a limit a polyphase filter of scipy does the same in bounded memory.
    """
    if source_rate == sample_rate:
        return waveform
    common = math.gcd(source_rate, sample_rate)
    up, down = sample_rate // common, source_rate // common
    if up * down <= _MOST_PHASES:
        resampled: Tensor = _resampler(source_rate, sample_rate)(waveform)
        return resampled
    signal = import_extra("scipy.signal")
    return torch.from_numpy(signal.resample_poly(waveform.numpy(), up, down).astype(np.float32, copy=False))


@dataclass(frozen=True)
class Audio:
    """What :func:`read_audio_file` has read.

    Attributes:
        waveform: ``(T,)`` float32 in [-1, 1]; ``T`` is 0 if the file holds no sample.
        peak: Largest magnitude in the file. Above 1, the waveform was divided by it.
        channels_cancel: Whether the channels cancel each other in their mean, so that only the loudest was taken.
    """

    waveform: Tensor
    peak: float = 0.0
    channels_cancel: bool = False


def read_audio(path: Path, sample_rate: int) -> Tensor:
    """The waveform of :func:`read_audio_file`, with the same errors."""
    return read_audio_file(path, sample_rate).waveform


def read_audio_file(path: Path, sample_rate: int) -> Audio:
    """Read an audio file as one channel.

    Args:
        path: A file in a format that soundfile reads, of any length that its header states; channels are averaged,
            and where they cancel each other (one is the other upside down) the loudest is taken.
        sample_rate: Sample rate of the result in Hz.

    Raises:
        RuntimeError: soundfile cannot read the file.
        ValueError: The file holds NaN or infinite samples, or its sample rate is below 1 kHz or above 384 kHz.
    """
    samples, source_rate = _decode(path)
    if not len(samples):
        return Audio(samples[:, 0])
    if not _LOWEST_RATE <= source_rate <= _HIGHEST_RATE:
        raise ValueError(f"a sample rate of {source_rate} Hz, expected {_LOWEST_RATE} to {_HIGHEST_RATE} Hz")
    if not samples.isfinite().all():
        raise ValueError("NaN or infinite samples")
    peak = float(samples.abs().max())
    if peak > 1.0:
        samples = samples / peak
    waveform = samples.mean(dim=1)
    powers = samples.square().mean(dim=0)
    channels_cancel = bool(waveform.square().mean() < _CANCELLED * powers.mean())
    if channels_cancel:
        waveform = samples[:, int(powers.argmax())]
    return Audio(resample(waveform, source_rate, sample_rate).clamp_(-1.0, 1.0), peak, channels_cancel)


def _decode(path: Path) -> tuple[Tensor, int]:
    """Samples ``(T, channels)`` float32 and their rate, block by block until there are no more: headers of streams
    state any length, and memory of that size must not be asked for."""
    # soundfile rather than torchaudio.load: since torchaudio 2.9 the latter needs torchcodec as well.
    soundfile = import_extra("soundfile")

    class Stream(soundfile.SoundFile):  # type: ignore[misc,name-defined]
        def seekable(self) -> bool:  # else it seeks to where the header says that a block ends, and fails there
            return False

    # Bytes: a name may be in another encoding than that of the file system.
    name = os.fsencode(path) if os.name == "posix" else str(path)
    with Stream(name) as stream:
        blocks = []
        while len(block := stream.read(_BLOCK, dtype="float32", always_2d=True)):
            blocks.append(block)
        samples = np.concatenate(blocks) if blocks else np.zeros((0, stream.channels), np.float32)
        return torch.from_numpy(samples), stream.samplerate


def to_int16(waveform: Tensor) -> Int16Array:
    """Round a ``(T,)`` float waveform in [-1, 1] to int16; values outside the range are clipped."""
    scaled: Int16Array = (waveform * 32768).round().clamp(-32768, 32767).to(torch.int16).numpy()
    return scaled


def from_int16(samples: Int16Array) -> Tensor:
    """Turn ``(T,)`` int16 samples into a float32 waveform in [-1, 1); the result is a copy."""
    return torch.from_numpy(samples.astype(np.float32)).div_(32768)
