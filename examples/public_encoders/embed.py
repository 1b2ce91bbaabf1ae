"""Embeddings of an encoder's taps, kept on disk: segments for the scores, frames and windows for the probes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lightning_mi.embedding.pooling import pool
from lightning_mi.examples.data.utterances import Phone
from lightning_mi.examples.public_encoders import labels, speech
from lightning_mi.examples.public_encoders.conditions import Condition
from lightning_mi.examples.public_encoders.registry import Encoder
from lightning_mi.examples.public_encoders.speech import PROBE, SAMPLE_RATE, SPEAKERS, Speaker

UTTERANCES = 40
"""Of each speaker, for the scores: two pairs from each."""

ALIGNED = {
    "espeak": (
        ("fr-fr/June", "es/Allison", "ru/IvrvoiceRU", "cs/small fish", "nl/big fish"),
        ("fr-fr/stamps", "es/stamps", "ru/stamps", "cs/big fish", "nl/small fish"),
    ),
    "pocketsphinx": (("en-us/Allison",), ()),
}
"""Whose phones each aligner finds. With two groups, probes are fitted to one and tested on the other."""

_PROBED = {"espeak": 24, "pocketsphinx": 50, "voices": 8}  # utterances of a speaker
_FRAMES = {"espeak": 60, "pocketsphinx": 160}  # of an utterance
_WINDOWS = (0.25, 1.5, 2.75, 4.0)  # seconds at which the windows for voices begin; they take 1 s
_LONGEST = 8.0  # seconds of an utterance: the window of the encoder with the shortest
_BATCH = 32


@dataclass(frozen=True)
class ProbeSpeech:
    """Whole utterances, and what is known about moments in them.

    Attributes:
        waveforms: ``(T,)`` each.
        speakers: Of each.
        times: ``(n, 2)`` for each aligner: number of the utterance, seconds in it.
        phones: ``(n,)`` for each aligner.
        folds: ``(n,)`` 0 or 1, for each aligner.
        for_voices: Numbers of the utterances whose windows are for voices.
    """

    waveforms: list[Tensor]
    speakers: list[str]
    times: dict[str, np.ndarray]
    phones: dict[str, np.ndarray]
    folds: dict[str, np.ndarray]
    for_voices: list[int]


def probe_speech(root: Path, cache: Path) -> ProbeSpeech:
    """The speech that probes are fitted to and tested on, aligned once."""
    file = cache / "probe_speech.pt"
    if not file.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        torch.save(_align(root), file)
    found: ProbeSpeech = torch.load(file, weights_only=False)
    return found


def _align(root: Path) -> ProbeSpeech:
    waveforms: list[Tensor] = []
    speakers: list[str] = []
    rows: dict[str, list[tuple[int, float]]] = {name: [] for name in ALIGNED}
    phones: dict[str, list[str]] = {name: [] for name in ALIGNED}
    folds: dict[str, list[int]] = {name: [] for name in ALIGNED}
    for_voices: list[int] = []
    rng = np.random.default_rng(0)
    for speaker in SPEAKERS:
        aligner = next((name for name, groups in ALIGNED.items() if any(speaker.id in g for g in groups)), "")
        count = max(_PROBED["voices"], _PROBED.get(aligner, 0))
        clips = speaker.clips(root, PROBE, count * 7.0)
        known = labels.phones_of(clips, aligner, speaker.language, speaker.name)
        for order, numbers in enumerate(speech.joined(clips)[:count]):
            here: list[Phone] = []
            begin = 0.0
            for number in numbers:
                here += [(symbol, start + begin, end + begin) for symbol, start, end in known[number]]
                begin += len(clips[number].waveform) / SAMPLE_RATE
            here = [phone for phone in here if phone[2] < _LONGEST]
            at = len(waveforms)
            whole = torch.cat([clips[number].waveform for number in numbers])
            waveforms.append(whole[: round(_LONGEST * SAMPLE_RATE)])
            speakers.append(speaker.id)
            if order < _PROBED["voices"]:
                for_voices.append(at)
            # Times are drawn by duration: a long phone has more frames, as it has for a model.
            if here:
                lengths = np.array([end - start for _, start, end in here])
                chosen = rng.choice(len(here), _FRAMES[aligner], p=lengths / lengths.sum())
                for number, share in zip(chosen, rng.uniform(size=len(chosen)), strict=True):
                    symbol, start, end = here[number]
                    rows[aligner].append((at, start + share * (end - start)))
                    phones[aligner].append(symbol)
                    by_speaker = len(ALIGNED[aligner][1]) > 0
                    folds[aligner].append(int(speaker.id in ALIGNED[aligner][1]) if by_speaker else order % 2)
    return ProbeSpeech(
        waveforms,
        speakers,
        {name: np.array(each) for name, each in rows.items()},
        {name: np.array(each) for name, each in phones.items()},
        {name: np.array(each) for name, each in folds.items()},
        for_voices,
    )


def score_speech(root: Path, half: str, cache: Path) -> tuple[list[Speaker], list[Tensor]]:
    """Speaker and waveform of each utterance that is scored."""
    file = cache / f"score_speech_{half}.pt"
    if not file.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        torch.save([(speaker.id, wave) for speaker, wave in speech.utterances(root, half, UTTERANCES)], file)
    by_id = {speaker.id: speaker for speaker in SPEAKERS}
    found = torch.load(file)
    return [by_id[name] for name, _ in found], [wave for _, wave in found]


@torch.inference_mode()
def segment_embeddings(
    encoder: Encoder, model: nn.Module, condition: Condition, utterances: Sequence[Tensor]
) -> dict[str, Tensor]:
    """Pooled segments ``(n, 1 + G, D)`` float32 of each ``"tap/pooling"``, and ``"groups"`` ``(n,)``."""
    segments, groups = condition.segments(utterances)
    found: dict[str, list[Tensor]] = {}
    for part in segments.split(max(1, _BATCH // segments.shape[1])):
        for tap, frames in _wanted(encoder, model(part.flatten(0, 1))):
            for how in condition.poolings:
                found.setdefault(f"{tap}/{how}", []).append(pool(frames.unflatten(0, part.shape[:2]), how).half())
    return {key: torch.cat(parts) for key, parts in found.items()} | {"groups": groups}


@torch.inference_mode()
def probe_embeddings(encoder: Encoder, model: nn.Module, spoken: ProbeSpeech) -> dict[str, Tensor]:
    """Frames ``(n, D)`` at the labelled times (``"tap/espeak"``, ``"tap/pocketsphinx"``) and means over windows of
    1 s (``"tap/voices"``), out of whole utterances."""
    found: dict[str, list[Tensor]] = {}
    for number, waveform in enumerate(spoken.waveforms):
        seconds = len(waveform) / SAMPLE_RATE
        for tap, (frames,) in _wanted(encoder, model(waveform[None])):
            place = len(frames) / seconds
            for aligner, times in spoken.times.items():
                here = times[times[:, 0] == number, 1]
                at = torch.from_numpy(here * place).long().clamp(max=len(frames) - 1)
                found.setdefault(f"{tap}/{aligner}", []).append(frames[at].half())
            if number in spoken.for_voices:
                windows = [frames[int(start * place) : int((start + 1) * place)] for start in _WINDOWS]
                means = torch.stack([window.float().mean(dim=0) for window in windows])
                found.setdefault(f"{tap}/voices", []).append(means.half())
    return {key: torch.cat(parts) for key, parts in found.items()}


def _wanted(encoder: Encoder, taps: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    yield from ((tap, z) for tap, z in taps.items() if not encoder.taps or tap in encoder.taps)


def embedding_file(cache: Path, encoder: Encoder, what: str) -> Path:
    """Where the embeddings of one encoder under one condition are kept."""
    name = f"{encoder.name}, {what}"
    digest = hashlib.sha256(name.encode()).hexdigest()[:6]
    return cache / f"{''.join(c if c.isalnum() else '_' for c in name)}_{digest}.pt"
