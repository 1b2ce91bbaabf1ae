"""Linear probes: downstream accuracy of a frozen model for phones, speakers and languages."""

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

from lightning_mi.examples.data.utterances import Phone, Recording
from lightning_mi.examples.model_selection.corpora.base import LANGUAGE, PHONE, SPEAKER, TASKS
from lightning_mi.examples.model_selection.corpora.splits import LEFT_OUT, Split
from lightning_mi.examples.model_selection.scores.embed import frames_of

_BATCH = 32
_FEWEST = 10  # frames of a phone in each fold; rarer phones are left out


@dataclass(frozen=True)
class DownstreamSpeech:
    """Crops of one length and their labels.

    Attributes:
        waveforms: ``(U, T)`` float32.
        seconds: ``(U, F)`` float64, times in the crop at which a phone is known; 0 in utterances without phones.
        phones: ``(U, F)`` their classes.
        speakers: ``(U,)`` classes.
        languages: ``(U,)`` classes.
        folds: For each of ``TASKS`` ``(U,)`` int64, as a :data:`~.corpora.splits.Split` returns it.
        crop_seconds: T in seconds.
    """

    waveforms: Tensor
    seconds: Tensor
    phones: Any
    speakers: Any
    languages: Any
    folds: Mapping[str, Any]
    crop_seconds: float


def downstream_speech(
    recordings: Sequence[Recording],
    splits: Mapping[str, Split],
    crop_seconds: float,
    frames: int,
    crops: int = 1,
    sample_rate: int = 16000,
    seed: int = 0,
) -> DownstreamSpeech:
    """Cut crops of one length (padding would leak), and draw ``frames`` times in each that lie in a phone.

    They are the same for all models. Shorter recordings, and crops with too few phones, are left out; recordings
    without known phones are left out of the probe for phones alone. All crops of a recording are in one fold.

    Args:
        recordings: Recordings of the downstream corpus.
        splits: For each of ``TASKS`` how the two folds of its probe are drawn.
        crop_seconds: Length of the crops, one after another from the recording's beginning.
        frames: F.
        crops: The most crops of one recording.
        sample_rate: Samples a second.
        seed: Seed of the times.
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
    of_recordings = {task: splits[task]([recordings[number].utterance for number in used]) for task in TASKS}
    of = np.searchsorted(used, [number for number, _, _ in kept])
    folds = {task: of_recordings[task][of] for task in TASKS}
    utterances = [recordings[number].utterance for number, _, _ in kept]
    folds[PHONE] = np.where([bool(utterance.phones) for utterance in utterances], folds[PHONE], LEFT_OUT)
    return DownstreamSpeech(
        waveforms=torch.stack([waveform for _, waveform, _ in kept]),
        seconds=torch.tensor([[float(time) for time, _ in each] for _, _, each in kept], dtype=torch.float64),
        phones=np.array([[symbol for _, symbol in each] for _, _, each in kept]),
        speakers=np.array([utterance.voice for utterance in utterances]),
        languages=np.array([utterance.language for utterance in utterances]),
        folds=folds,
        crop_seconds=crop_seconds,
    )


def phone_at(phones: Sequence[Phone], seconds: float) -> str | None:
    """Symbol of the phone at a time, or ``None`` in a pause."""
    return next((symbol for symbol, start, end in phones if start <= seconds < end), None)


@torch.inference_mode()
def accuracies(
    encode: Callable[[Tensor], Tensor], speech: DownstreamSpeech, tasks: Sequence[str] = TASKS
) -> dict[str, float]:
    """Accuracy of the probes for phones (of frames), speakers and languages (of means over the crop).

    Each fold is tested by a probe that was fitted to the other one.
    """
    means, frames = [], []
    for part, seconds in zip(speech.waveforms.split(_BATCH), speech.seconds.split(_BATCH), strict=True):
        z = frames_of(encode, part)
        means.append(z.mean(dim=1))
        at = (seconds / speech.crop_seconds * z.shape[1]).long().clamp(max=z.shape[1] - 1)
        frames.append(z.gather(1, at[:, :, None].expand(-1, -1, z.shape[2])))
    mean, frame = torch.cat(means).double().numpy(), torch.cat(frames).double()
    folds = dict(speech.folds) | {PHONE: np.repeat(speech.folds[PHONE], frame.shape[1])}
    given = {
        PHONE: (frame.flatten(0, 1).numpy(), speech.phones.reshape(-1), _FEWEST),
        SPEAKER: (mean, speech.speakers, 1),
        LANGUAGE: (mean, speech.languages, 1),
    }
    return {task: probe_accuracy(*given[task][:2], folds[task], fewest=given[task][2]) for task in tasks}


def probe_accuracy(
    x: Any, labels: Any, folds: Any, fewest: int = 1, penalty: float = 1.0, max_iter: int = 60
) -> float:
    """Two-fold cross-validated accuracy of softmax regression; 0 if ``x`` is not finite.

    Args:
        x: ``(N, D)`` features, standardised by the fold that is fitted.
        labels: ``(N,)`` classes.
        folds: ``(N,)`` 0, 1 or :data:`~.corpora.splits.LEFT_OUT`.
        fewest: Classes with fewer rows in a fold are left out.
        penalty: scikit-learn's C is its inverse.
        max_iter: The most iterations of L-BFGS.

    Raises:
        ValueError: If no class is in both folds.
    """
    names, numbers = np.unique(labels, return_inverse=True)
    counts = np.array([np.bincount(numbers[folds == which], minlength=len(names)) for which in (0, 1)])
    common = (counts.min(axis=0) >= fewest)[numbers] & (folds != LEFT_OUT)
    if not common.any():
        raise ValueError(f"labels: none of {names.tolist()} has {fewest} rows in both folds; give more utterances")
    x, numbers, folds = x[common], numbers[common], folds[common]
    if not np.isfinite(x).all():
        return 0.0
    correct = 0
    for which in (0, 1):
        fit, test = folds == which, folds != which
        scaler = StandardScaler().fit(x[fit])
        probe = LogisticRegression(C=1 / penalty, max_iter=max_iter, tol=1e-3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the last iterations change no accuracy
            probe.fit(scaler.transform(x[fit]), numbers[fit])
        correct += int((probe.predict(scaler.transform(x[test])) == numbers[test]).sum())
    return correct / len(numbers)
