"""Phones of the recordings by two independent aligners.

``espeak``: dynamic time warping to the same words spoken by eSpeak NG
(:mod:`lightning_mi.examples.data.transcribed`), in five languages with two speakers each. ``pocketsphinx``: a
recogniser's acoustic model, for English, which one speaker speaks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from lightning_mi.examples.data.extras import import_extra
from lightning_mi.examples.data.transcribed import Transcribed, find_phones
from lightning_mi.examples.data.utterances import Phone
from lightning_mi.examples.public_encoders.speech import SAMPLE_RATE, Clip

_FRAME_SECONDS = 0.01
_NO_PHONE = ("SIL", "+SPN+", "+NSN+")


def phones_of(clips: Sequence[Clip], aligner: str, language: str, speaker: str) -> list[tuple[Phone, ...]]:
    """Phones of each clip of one speaker by the aligner of that name; none if it is neither."""
    if aligner == "espeak":
        return espeak_phones(clips, language, speaker)
    return pocketsphinx_phones(clips) if aligner == "pocketsphinx" else [()] * len(clips)


def espeak_phones(clips: Sequence[Clip], language: str, speaker: str) -> list[tuple[Phone, ...]]:
    """Phones of each clip in IPA; none if it has no text, or its words are not credible."""
    known = [number for number, clip in enumerate(clips) if re.search(r"\w", clip.text)]
    found: list[tuple[Phone, ...]] = [()] * len(clips)
    transcribed = [Transcribed(clips[i].waveform, clips[i].text, language, speaker) for i in known]
    for number, phones in zip(known, find_phones(transcribed), strict=True):
        found[number] = phones
    return found


def pocketsphinx_phones(clips: Sequence[Clip]) -> list[tuple[Phone, ...]]:
    """Phones of each English clip in ARPAbet; none if a word is not in the dictionary, or nothing fits."""
    pocketsphinx = import_extra("pocketsphinx")
    decoder = pocketsphinx.Decoder(lm=None, loglevel="FATAL", samprate=SAMPLE_RATE)
    found: list[tuple[Phone, ...]] = []
    for clip in clips:
        words = re.findall(r"[a-z']+", clip.text.lower())
        known = words and not re.search(r"\d", clip.text) and all(decoder.lookup_word(word) for word in words)
        found.append(_aligned(decoder, clip, words) if known else ())
    return found


def _aligned(decoder: Any, clip: Clip, words: Sequence[str]) -> tuple[Phone, ...]:
    samples = (clip.waveform.clamp(-1, 1) * 32767).short().numpy().tobytes()
    try:
        decoder.set_align_text(" ".join(words))
        _decode(decoder, samples)
        decoder.set_alignment()
        _decode(decoder, samples)
    except RuntimeError:  # no path
        return ()
    return tuple(
        (phone.name, phone.start * _FRAME_SECONDS, (phone.start + phone.duration) * _FRAME_SECONDS)
        for word in decoder.get_alignment()
        for phone in word
        if phone.name not in _NO_PHONE
    )


def _decode(decoder: Any, samples: bytes) -> None:
    decoder.start_utt()
    decoder.process_raw(samples, full_utt=True)
    decoder.end_utt()
