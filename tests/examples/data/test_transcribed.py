"""Phones of transcribed recordings."""

import pytest

pytest.importorskip("torchaudio")
pytest.importorskip("espeakng_loader")
pytest.importorskip("soundfile")

from lightning_mi.examples.data.audio_files import resample
from lightning_mi.examples.data.transcribed import Transcribed, find_phones
from tests.helpers.asterisk_packages import RATE, WORDS, spoken, telephone


def test_other_words_have_no_phones():
    waveforms = [resample(telephone(each), 8000, RATE) for each in spoken(WORDS, "en-us+m3")]
    texts = [*WORDS[:-1], "the quick brown fox jumps over the lazy dog"]
    found = find_phones([Transcribed(w, text, "en-us", "m3") for w, text in zip(waveforms, texts, strict=True)])
    assert [bool(phones) for phones in found] == [True] * (len(WORDS) - 1) + [False]
