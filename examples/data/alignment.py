"""Forced alignment of phones: recorded speech is aligned to the same words spoken by eSpeak NG.

The words are synthesised, which gives the times of their phones; dynamic time warping between the two, on cepstra,
gives the times in the recording (the way of the tool aeneas). Pauses are taken out first, and the synthesised
speech is about as fast as the recorded, so that the tempo may be held within a factor of 2. Then the synthesised
frames are moved to where the speaker's own lie, by a regression on those that are beside each other, and all is
warped again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_mi.examples.data.audio_files import resample
from lightning_mi.examples.data.espeak_process import Spoken
from lightning_mi.examples.data.extras import import_extra
from lightning_mi.examples.data.pauses import FRAME_SECONDS, pauses
from lightning_mi.examples.data.utterances import Phone
from lightning_mi.examples.data.warping import warp

SAMPLE_RATE = 16000
_HOP = round(FRAME_SECONDS * SAMPLE_RATE)
_CEPSTRA = 13
_BAND_HZ = (200.0, 3600.0)  # of a telephone
_WINDOW_SECONDS = 0.025
_FITTED = 0.9  # share of the utterances that a speaker is fitted to
_FEWEST_FRAMES = 1000
_RIDGE = 20.0  # frames' worth of the prior that a phone is nothing special


@dataclass(frozen=True)
class Sound:
    """What of an utterance is compared: its frames outside of pauses.

    Attributes:
        frames: ``(F,)`` int64, their numbers; frame n lasts from 10 n to 10 n + 10 ms.
        cepstra: ``(F, 26)`` float32, mel cepstra of the telephone's band and their slopes, each with mean 0 and
            variance 1.
    """

    frames: Any
    cepstra: Tensor

    @classmethod
    def of(cls, waveform: Tensor) -> Sound:
        """Make it from a waveform, ``(T,)`` float32 at 16 kHz, with at least 25 ms of sound."""
        frames = np.flatnonzero(~pauses(waveform, SAMPLE_RATE))
        mel = _transform()(waveform[_HOP // 2 :])  # the transform's windows are centred: these on frames' middles
        both = torch.cat([mel, import_extra("torchaudio").functional.compute_deltas(mel)]).mT[frames]
        return cls(frames, (both - both.mean(dim=0)) / both.std(dim=0).clamp(min=1e-5))

    @property
    def seconds(self) -> float:
        """Their duration."""
        return len(self.frames) * FRAME_SECONDS

    def place(self, seconds: float) -> float:
        """A time in the utterance as a number of frames before it; fractions are parts of a frame."""
        after = seconds / FRAME_SECONDS - self.frames
        return float(np.clip(after, 0, 1).sum())

    def times(self, start: float, end: float) -> tuple[float, float]:
        """Start and end, in seconds in the utterance, of what is between two places: its longest part without a
        pause."""
        first, last = min(int(start), len(self.frames) - 1), max(int(np.ceil(end)) - 1, 0)
        inside = np.arange(first, max(first, last) + 1)
        runs = np.split(inside, np.flatnonzero(np.diff(self.frames[inside]) > 1) + 1)
        run = max(runs, key=len)
        begin = self.frames[run[0]] + max(start - run[0], 0.0)
        stop = self.frames[run[-1]] + min(end - run[-1], 1.0)
        return float(begin) * FRAME_SECONDS, float(stop) * FRAME_SECONDS


@dataclass(frozen=True)
class Alignment:
    """A recording beside a synthesised utterance.

    Attributes:
        phones: Those of the synthesised utterance, with their times in the recording, in seconds; none if there
            is no path.
        cost: Mean distance of the frames that lie beside each other; infinite if there is no path, because one
            side is more than twice as long.
        wrong_cost: That of the recording beside other words, those of its like in length.
    """

    phones: tuple[Phone, ...]
    cost: float
    wrong_cost: float


def align(sounds: Sequence[Sound], spoken: Sequence[Spoken], rounds: int = 3) -> list[Alignment]:
    """Find the phones of each of ``spoken`` in the one of ``sounds`` that has the same words.

    Args:
        sounds: Recordings of one speaker in one language.
        spoken: Their words, synthesised in one voice.
        rounds: How often the synthesised frames are moved to the speaker's.

    Raises:
        ValueError: If there are not as many of the one as of the other.
    """
    if len(sounds) != len(spoken):
        raise ValueError(f"sounds, spoken: got {len(sounds)} and {len(spoken)}, expected as many")
    symbols = sorted({symbol for each in spoken for symbol, _, _ in each.phones})
    references = [_Reference.of(each, symbols) for each in spoken]
    speaker = _Speaker(torch.eye(2 * _CEPSTRA, references[0].features.shape[1]).mT, torch.eye(2 * _CEPSTRA))
    for number in range(rounds + 1):
        warped = [warp(speaker.costs(*pair)) for pair in zip(references, sounds, strict=True)]
        if number < rounds:
            speaker = _Speaker.of(references, sounds, warped) or speaker
    found = []
    for i, (reference, sound, (path, cost)) in enumerate(zip(references, sounds, warped, strict=True)):
        other = _like(references, i)
        wrong = float("inf") if other is None else warp(speaker.costs(other, sound))[1]
        found.append(Alignment(_carried(reference, sound, path) if len(path) else (), cost, wrong))
    return found


def credible_cost(alignments: Sequence[Alignment], accepted: float = 0.05) -> float:
    """The cost below which the share ``accepted`` of recordings would be beside words that are not theirs."""
    return float(np.quantile([each.wrong_cost for each in alignments], accepted, method="lower"))


@dataclass(frozen=True)
class _Reference:
    """A synthesised utterance: its sound, and ``(F, D)`` features that predict the sound of a speaker."""

    sound: Sound
    features: Tensor
    phones: tuple[Phone, ...]

    @classmethod
    def of(cls, spoken: Spoken, symbols: Sequence[str]) -> _Reference:
        sound = sound_of(spoken)
        said = torch.zeros(len(sound.frames), len(symbols))
        middles = (sound.frames + 0.5) * FRAME_SECONDS
        for symbol, start, end in spoken.phones:
            said[(middles >= start) & (middles < end), symbols.index(symbol)] = 1
        return cls(sound, torch.cat([sound.cepstra, said, torch.ones(len(said), 1)], dim=1), spoken.phones)


@dataclass(frozen=True)
class _Speaker:
    """A Gaussian model of a speaker's frames given the reference.

    Attributes:
        slope: ``(D, 26)``, of the regression of the speaker's cepstra on the features of a reference.
        white: ``(26, 26)``, makes the residuals white.
    """

    slope: Tensor
    white: Tensor

    @classmethod
    def of(
        cls, references: Sequence[_Reference], sounds: Sequence[Sound], warped: Sequence[tuple[Any, float]]
    ) -> _Speaker | None:
        """Fitted to the better aligned utterances; ``None`` if they are too few."""
        limit = np.quantile([cost for _, cost in warped], _FITTED, method="lower")
        good = [i for i, (path, cost) in enumerate(warped) if cost <= limit and len(path)]
        if sum(len(warped[i][0]) for i in good) < _FEWEST_FRAMES:
            return None
        x = torch.cat([references[i].features[warped[i][0][:, 0]] for i in good]).double()
        y = torch.cat([sounds[i].cepstra[warped[i][0][:, 1]] for i in good]).double()
        slope = torch.linalg.solve(x.mT @ x + _RIDGE * torch.eye(x.shape[1], dtype=x.dtype), x.mT @ y)
        residual = torch.cov((y - x @ slope).mT) + 1e-3 * torch.eye(y.shape[1], dtype=y.dtype)
        white = torch.linalg.cholesky(torch.linalg.inv(residual))
        return cls(slope.float(), white.float())

    def costs(self, reference: _Reference, sound: Sound) -> Any:
        """Distances of all frames of the one and the other, ``(N, M)``."""
        expected = reference.features @ self.slope
        return torch.cdist(expected @ self.white, sound.cepstra @ self.white).numpy()


def _like(references: Sequence[_Reference], which: int) -> _Reference | None:
    """The one with other phones that is nearest in length."""
    said = [symbol for symbol, _, _ in references[which].phones]
    length = len(references[which].features)
    others = [each for each in references if [symbol for symbol, _, _ in each.phones] != said]
    return min(others, key=lambda each: abs(len(each.features) - length), default=None)


def _carried(reference: _Reference, sound: Sound, path: Any) -> tuple[Phone, ...]:
    # If a frame of the reference is aligned to two of the recording, the middle between them is taken.
    beside = np.bincount(path[:, 0], path[:, 1] + 0.5) / np.bincount(path[:, 0])
    count = len(beside)
    known = [0, *(np.arange(count) + 0.5), count], [0, *beside, len(sound.frames)]
    phones = []
    for symbol, start, end in reference.phones:
        places = (float(np.interp(reference.sound.place(seconds), *known)) for seconds in (start, end))
        first, last = sound.times(*places)
        if last > first:
            phones.append((symbol, first, last))
    return tuple(phones)


def sound_of(spoken: Spoken) -> Sound:
    """Sound of a synthesised utterance."""
    waveform = torch.from_numpy(spoken.samples / 32768).float()
    return Sound.of(resample(waveform, spoken.sample_rate, SAMPLE_RATE))


@lru_cache(maxsize=1)
def _transform() -> Any:
    return import_extra("torchaudio").transforms.MFCC(
        SAMPLE_RATE,
        n_mfcc=_CEPSTRA,
        melkwargs={
            "n_fft": 512,
            "win_length": round(_WINDOW_SECONDS * SAMPLE_RATE),
            "hop_length": _HOP,
            "f_min": _BAND_HZ[0],
            "f_max": _BAND_HZ[1],
            "n_mels": 26,
        },
    )
