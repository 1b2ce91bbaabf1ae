"""The truth: what linear probes with labels read from a frozen model, on voices that nothing else has seen."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from ..data.utterances import Phone, Recording
from .encode import frames_of

PHONE, VOICE, LANGUAGE = "phone", "voice", "language"
TRUTHS = (PHONE, VOICE, LANGUAGE)
_BATCH = 32
_FEWEST = 10  # frames of a phone on each side; rarer phones are left out


@dataclass(frozen=True)
class TruthSpeech:
    """Crops of one length and their labels.

    Attributes:
        waveforms: ``(U, T)`` float32.
        seconds: ``(U, F)`` float64, times in the crop at which a phone is known.
        phones: ``(U, F)`` their classes.
        voices: ``(U,)`` classes.
        languages: ``(U,)`` classes.
        first_half: ``(U,)`` bool, utterances of the one half of the voices.
        even: ``(U,)`` bool, half of the utterances of each voice.
        crop_seconds: T in seconds.
    """

    waveforms: Tensor
    seconds: Tensor
    phones: Any
    voices: Any
    languages: Any
    first_half: Any
    even: Any
    crop_seconds: float


def truth_speech(
    recordings: Sequence[Recording], crop_seconds: float, frames: int, sample_rate: int = 16000, seed: int = 0
) -> TruthSpeech:
    """Crop the recordings to one length (padding would tell), and draw ``frames`` times of each that lie in a
    phone, the same for all models. Recordings that are shorter or have too few phones are left out."""
    rng = np.random.default_rng(seed)
    samples = round(crop_seconds * sample_rate)
    kept = []
    for recording in recordings:
        waveform, phones = recording.read()[:samples], recording.utterance.phones
        inside = [phone for phone in phones if phone[1] < crop_seconds]
        if len(waveform) == samples and inside:
            times = np.sort(rng.uniform(inside[0][1], min(inside[-1][2], crop_seconds), size=4 * frames))
            labelled = [(time, symbol) for time in times if (symbol := phone_at(phones, time)) is not None]
            if len(labelled) >= frames:
                chosen = sorted(rng.permutation(len(labelled))[:frames])
                kept.append((recording.utterance, waveform, [labelled[i] for i in chosen]))
    voices = sorted({utterance.voice for utterance, _, _ in kept})
    seen = dict.fromkeys(voices, 0)
    even = []
    for utterance, _, _ in kept:
        even.append(seen[utterance.voice] % 2 == 0)
        seen[utterance.voice] += 1
    return TruthSpeech(
        waveforms=torch.stack([waveform for _, waveform, _ in kept]),
        seconds=torch.tensor([[float(time) for time, _ in each] for _, _, each in kept], dtype=torch.float64),
        phones=np.array([[symbol for _, symbol in each] for _, _, each in kept]),
        voices=np.array([utterance.voice for utterance, _, _ in kept]),
        languages=np.array([utterance.language for utterance, _, _ in kept]),
        first_half=np.array([voices.index(utterance.voice) % 2 == 0 for utterance, _, _ in kept]),
        even=np.array(even),
        crop_seconds=crop_seconds,
    )


def phone_at(phones: Sequence[Phone], seconds: float) -> str | None:
    """Symbol of the phone that is spoken then, if there is one."""
    return next((symbol for symbol, start, end in phones if start <= seconds < end), None)


@torch.inference_mode()
def accuracies(encode: Callable[[Tensor], Tensor], speech: TruthSpeech) -> dict[str, float]:
    """Accuracy of linear probes for phones (of frames), and voices and languages (of the mean over the crop).

    Phones and languages are tested on voices that the probe has not seen, voices on other utterances; both halves
    are tested, each by a probe that was fitted to the other.
    """
    means, frames = [], []
    for part, seconds in zip(speech.waveforms.split(_BATCH), speech.seconds.split(_BATCH), strict=True):
        z = frames_of(encode, part)
        means.append(z.mean(dim=1))
        at = (seconds / speech.crop_seconds * z.shape[1]).long().clamp(max=z.shape[1] - 1)
        frames.append(z.gather(1, at[:, :, None].expand(-1, -1, z.shape[2])))
    mean, frame = torch.cat(means).double().numpy(), torch.cat(frames).double()
    per_frame = frame.shape[1]
    of_frames = np.repeat(speech.first_half, per_frame)
    phones = speech.phones.reshape(-1)
    return {
        PHONE: probe_accuracy(frame.flatten(0, 1).numpy(), phones, of_frames, fewest=_FEWEST),
        VOICE: probe_accuracy(mean, speech.voices, speech.even),
        LANGUAGE: probe_accuracy(mean, speech.languages, speech.first_half),
    }


def probe_accuracy(
    x: Any, labels: Any, side: Any, fewest: int = 1, penalty: float = 1.0, max_iter: int = 60
) -> float:
    """Accuracy of softmax regression on each of two sides, fitted to the other; 0 where ``x`` is not finite.

    Args:
        x: ``(N, D)`` features, standardised by the side that is fitted.
        labels: ``(N,)`` classes.
        side: ``(N,)`` bool.
        fewest: Classes with fewer rows on a side are left out.
        penalty: scikit-learn's C is its inverse.
        max_iter: The most iterations of L-BFGS.
    """
    names, numbers = np.unique(labels, return_inverse=True)
    counts = np.array([np.bincount(numbers[side == which], minlength=len(names)) for which in (False, True)])
    common = (counts.min(axis=0) >= fewest)[numbers]
    x, numbers, side = x[common], numbers[common], side[common]
    if not np.isfinite(x).all():
        return 0.0
    correct = 0
    for which in (False, True):
        fit, test = side == which, side != which
        scaler = StandardScaler().fit(x[fit])
        probe = LogisticRegression(C=1 / penalty, max_iter=max_iter, tol=1e-3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the last iterations change no accuracy
            probe.fit(scaler.transform(x[fit]), numbers[fit])
        correct += int((probe.predict(scaler.transform(x[test])) == numbers[test]).sum())
    return correct / len(numbers)
