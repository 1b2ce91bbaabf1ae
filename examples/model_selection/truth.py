"""The truth: what linear probes with labels read from a frozen model, on voices that nothing else has seen."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
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
from .halves import LEFT_OUT, Halving

PHONE, VOICE, LANGUAGE = "phone", "voice", "language"
TRUTHS = (PHONE, VOICE, LANGUAGE)
_BATCH = 32
_FEWEST = 10  # frames of a phone in each half; rarer phones are left out


@dataclass(frozen=True)
class TruthSpeech:
    """Crops of one length and their labels.

    Attributes:
        waveforms: ``(U, T)`` float32.
        seconds: ``(U, F)`` float64, times in the crop at which a phone is known; 0 in utterances without phones.
        phones: ``(U, F)`` their classes.
        voices: ``(U,)`` classes.
        languages: ``(U,)`` classes.
        halves: For each of :data:`TRUTHS` ``(U,)`` int64, as a :data:`~.halves.Halving` gives it.
        crop_seconds: T in seconds.
    """

    waveforms: Tensor
    seconds: Tensor
    phones: Any
    voices: Any
    languages: Any
    halves: Mapping[str, Any]
    crop_seconds: float


def truth_speech(
    recordings: Sequence[Recording],
    halves: Mapping[str, Halving],
    crop_seconds: float,
    frames: int,
    crops: int = 1,
    sample_rate: int = 16000,
    seed: int = 0,
) -> TruthSpeech:
    """Cut crops of one length (padding would tell), and draw ``frames`` times of each that lie in a phone.

    They are the same for all models. Recordings that are shorter, and crops that have too few phones, are left
    out; recordings of which no phone is known are left out of the truth for phones alone. All crops of a recording
    are in the same half.

    Args:
        recordings: Of the corpus for the truth.
        halves: For each of :data:`TRUTHS` how its probe's two halves are drawn.
        crop_seconds: Length of the crops, one after another from the recording's beginning.
        frames: F.
        crops: The most of one recording.
        sample_rate: In Hz.
        seed: Of the times.
    """
    rng = np.random.default_rng(seed)
    samples = round(crop_seconds * sample_rate)
    unknown = [(0.0, "")] * frames
    kept = []
    for number, recording in enumerate(recordings):
        whole, phones = recording.read(), recording.utterance.phones
        for crop in range(min(crops, len(whole) // samples)):
            waveform = whole[crop * samples : (crop + 1) * samples]
            begin = crop * crop_seconds
            here = [(symbol, max(start - begin, 0.0), end - begin) for symbol, start, end in phones if end > begin]
            inside = [phone for phone in here if phone[1] < crop_seconds]
            if not phones:
                kept.append((number, waveform, unknown))
            elif inside:
                times = np.sort(rng.uniform(inside[0][1], min(inside[-1][2], crop_seconds), size=4 * frames))
                labelled = [(time, symbol) for time in times if (symbol := phone_at(here, time)) is not None]
                if len(labelled) >= frames:
                    chosen = sorted(rng.permutation(len(labelled))[:frames])
                    kept.append((number, waveform, [labelled[i] for i in chosen]))
    used = sorted({number for number, _, _ in kept})
    drawn = {truth: halves[truth]([recordings[number].utterance for number in used]) for truth in TRUTHS}
    of = np.searchsorted(used, [number for number, _, _ in kept])
    found = {truth: drawn[truth][of] for truth in TRUTHS}
    utterances = [recordings[number].utterance for number, _, _ in kept]
    found[PHONE] = np.where([bool(utterance.phones) for utterance in utterances], found[PHONE], LEFT_OUT)
    return TruthSpeech(
        waveforms=torch.stack([waveform for _, waveform, _ in kept]),
        seconds=torch.tensor([[float(time) for time, _ in each] for _, _, each in kept], dtype=torch.float64),
        phones=np.array([[symbol for _, symbol in each] for _, _, each in kept]),
        voices=np.array([utterance.voice for utterance in utterances]),
        languages=np.array([utterance.language for utterance in utterances]),
        halves=found,
        crop_seconds=crop_seconds,
    )


def phone_at(phones: Sequence[Phone], seconds: float) -> str | None:
    """Symbol of the phone that is spoken then, if there is one."""
    return next((symbol for symbol, start, end in phones if start <= seconds < end), None)


@torch.inference_mode()
def accuracies(
    encode: Callable[[Tensor], Tensor], speech: TruthSpeech, truths: Sequence[str] = TRUTHS
) -> dict[str, float]:
    """Accuracy of linear probes for phones (of frames), and voices and languages (of the mean over the crop), as
    far as ``truths`` names them.

    Both halves are tested, each by a probe that was fitted to the other; what the halves do not share is for the
    corpus to say.
    """
    means, frames = [], []
    for part, seconds in zip(speech.waveforms.split(_BATCH), speech.seconds.split(_BATCH), strict=True):
        z = frames_of(encode, part)
        means.append(z.mean(dim=1))
        at = (seconds / speech.crop_seconds * z.shape[1]).long().clamp(max=z.shape[1] - 1)
        frames.append(z.gather(1, at[:, :, None].expand(-1, -1, z.shape[2])))
    mean, frame = torch.cat(means).double().numpy(), torch.cat(frames).double()
    half = dict(speech.halves) | {PHONE: np.repeat(speech.halves[PHONE], frame.shape[1])}
    asked = {
        PHONE: (frame.flatten(0, 1).numpy(), speech.phones.reshape(-1), _FEWEST),
        VOICE: (mean, speech.voices, 1),
        LANGUAGE: (mean, speech.languages, 1),
    }
    return {name: probe_accuracy(*asked[name][:2], half[name], fewest=asked[name][2]) for name in truths}


def probe_accuracy(
    x: Any, labels: Any, half: Any, fewest: int = 1, penalty: float = 1.0, max_iter: int = 60
) -> float:
    """Accuracy of softmax regression on each of two halves, fitted to the other; 0 where ``x`` is not finite.

    Args:
        x: ``(N, D)`` features, standardised by the half that is fitted.
        labels: ``(N,)`` classes.
        half: ``(N,)`` 0, 1 or :data:`~.halves.LEFT_OUT`.
        fewest: Classes with fewer rows in a half are left out.
        penalty: scikit-learn's C is its inverse.
        max_iter: The most iterations of L-BFGS.

    Raises:
        ValueError: If no class is in both halves.
    """
    names, numbers = np.unique(labels, return_inverse=True)
    counts = np.array([np.bincount(numbers[half == which], minlength=len(names)) for which in (0, 1)])
    common = (counts.min(axis=0) >= fewest)[numbers] & (half != LEFT_OUT)
    if not common.any():
        raise ValueError(
            f"labels: none of {names.tolist()} has {fewest} rows in both halves; give more utterances"
        )
    x, numbers, half = x[common], numbers[common], half[common]
    if not np.isfinite(x).all():
        return 0.0
    correct = 0
    for which in (0, 1):
        fit, test = half == which, half != which
        scaler = StandardScaler().fit(x[fit])
        probe = LogisticRegression(C=1 / penalty, max_iter=max_iter, tol=1e-3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the last iterations change no accuracy
            probe.fit(scaler.transform(x[fit]), numbers[fit])
        correct += int((probe.predict(scaler.transform(x[test])) == numbers[test]).sum())
    return correct / len(numbers)
