"""Forced alignment of speech whose phones are known."""

import numpy as np
import pytest

pytest.importorskip("torchaudio")
pytest.importorskip("espeakng_loader")
pytest.importorskip("soundfile")

from lightning_mi.examples.data.alignment import Sound, align, credible_cost
from lightning_mi.examples.data.audio_files import resample
from lightning_mi.examples.model_selection.corpora.channel import Channel
from tests.helpers.asterisk_packages import RATE, WORDS, spoken, telephone

CHANNEL = Channel(gain_db=(-6.0, 6.0), tilt_db=(-3.0, 3.0), snr_db=(20.0, 40.0))


def test_phones_are_found_where_they_were_spoken():
    """Another voice at other speeds over another channel, whose phones' times are known."""
    rates = [(130, 160, 190)[i % 3] for i in range(len(WORDS))]
    said = [spoken([text], "en-us+m3", rate, 40)[0] for text, rate in zip(WORDS, rates, strict=True)]
    sounds = [
        Sound.of(CHANNEL.apply(resample(telephone(each), 8000, RATE), text))
        for each, text in zip(said, WORDS, strict=True)
    ]
    found = align(sounds, spoken(WORDS, "en-us+f3"))
    right = frames = 0
    late = []
    for each, alignment in zip(said, found, strict=True):
        assert [symbol for symbol, _, _ in alignment.phones] == [symbol for symbol, _, _ in each.phones]
        for (_, start, end), (_, first, last) in zip(each.phones, alignment.phones, strict=True):
            right += max(0.0, min(end, last) - max(start, first))
            frames += end - start
            late.append(first - start)
    assert right / frames > 0.9
    assert abs(np.median(late)) < 0.005
    assert np.median(np.abs(late)) < 0.01
    costs, wrong = (np.array([getattr(each, name) for each in found]) for name in ("cost", "wrong_cost"))
    assert (costs < wrong).all()
    assert costs.max() < credible_cost(found)


def test_as_many_recordings_as_texts():
    with pytest.raises(ValueError, match="got 0 and 1"):
        align([], spoken(WORDS[:1], "en-us"))
