"""Phones of transcribed recordings, one speaker after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor
from tqdm.auto import tqdm  # type: ignore[import-untyped,unused-ignore]

from lightning_mi.examples.data.alignment import Sound, align, credible_cost, sound_of
from lightning_mi.examples.data.espeak_process import Request, Spoken, speak
from lightning_mi.examples.data.utterances import Phone

VOICES: Mapping[str, str] = {
    "en-us": "en-us+f3",
    "es": "es-419+f3",
    "fr-fr": "fr+f3",
    "it": "it+f3",
    "ru": "ru+f3",
    "cs": "cs+f3",
    "nl": "nl+f3",
}
"""For each language eSpeak NG's voice that its recordings are aligned to; the Spanish is that of Mexico."""

_RATE, _RATES = 160, (80, 400)  # words a minute
_PITCH = 50


@dataclass(frozen=True)
class Transcribed:
    """One recording.

    Attributes:
        waveform: ``(T,)`` float32 at 16 kHz.
        text: Transcript.
        language: A key of :data:`VOICES`.
        speaker: Name of the speaker.
    """

    waveform: Tensor
    text: str
    language: str
    speaker: str


def find_phones(recordings: Sequence[Transcribed]) -> list[tuple[Phone, ...]]:
    """The phones of each recording, in IPA; none if its words are not credible, because other words of the same
    length come as close in one of twenty recordings.

    Raises:
        ImportError: torchaudio or espeakng-loader is not installed.
        RuntimeError: eSpeak NG fails.
    """
    found: list[tuple[Phone, ...]] = [()] * len(recordings)
    speakers = sorted({(each.language, each.speaker) for each in recordings})
    for who in tqdm(speakers, desc="phones", unit="speaker", leave=False, disable=None):
        numbers = [i for i, each in enumerate(recordings) if (each.language, each.speaker) == who]
        sounds = [Sound.of(recordings[i].waveform) for i in numbers]
        alignments = align(sounds, _as_fast(sounds, [recordings[i].text for i in numbers], VOICES[who[0]]))
        limit = credible_cost(alignments)
        for i, alignment in zip(numbers, alignments, strict=True):
            if alignment.cost < limit:
                found[i] = alignment.phones
    return found


def _as_fast(sounds: Sequence[Sound], texts: Sequence[str], voice: str) -> list[Spoken]:
    """The texts, each spoken about as fast as the recording."""
    first = speak([Request(text, voice, _RATE, _PITCH) for text in texts])
    rates = [
        min(max(round(_RATE * sound_of(spoken).seconds / sound.seconds), _RATES[0]), _RATES[1])
        for spoken, sound in zip(first, sounds, strict=True)
    ]
    return list(speak([Request(text, voice, rate, _PITCH) for text, rate in zip(texts, rates, strict=True)]))
