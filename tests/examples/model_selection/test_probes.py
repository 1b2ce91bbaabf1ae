"""Probes, their folds and their crops."""

from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("torchaudio")
pytest.importorskip("sklearn")

from lightning_mi.examples.data.utterances import Recording, Utterance
from lightning_mi.examples.model_selection.corpora.base import DOWNSTREAM, LANGUAGE, PHONE, SPEAKER, TASKS
from lightning_mi.examples.model_selection.corpora.splits import LEFT_OUT, within_speaker
from lightning_mi.examples.model_selection.probes import (
    accuracies,
    downstream_speech,
    phone_at,
    probe_accuracy,
)

RATE = 16000


def test_a_probe_finds_classes_and_nothing_in_noise():
    labels = np.array(["a", "b", "c"])[np.arange(600) % 3]
    x = np.eye(3)[np.arange(600) % 3] + 0.1 * np.random.default_rng(0).normal(size=(600, 3))
    side = (np.arange(600) < 300).astype(int)
    assert probe_accuracy(x, labels, side) == 1
    noise = np.random.default_rng(1).normal(size=(600, 3))
    assert probe_accuracy(noise, labels, side) == pytest.approx(1 / 3, abs=0.08)
    assert probe_accuracy(np.full((600, 3), np.nan), labels, side) == 0


def test_probes_are_tested_on_what_they_have_not_seen(corpora):
    speech = downstream_speech(corpora.recordings(DOWNSTREAM), corpora.splits, crop_seconds=1.6, frames=8)
    assert speech.waveforms.shape == (len(speech.speakers), 25600)
    for task in (PHONE, LANGUAGE):
        assert not set(speech.speakers[speech.folds[task] == 0]) & set(speech.speakers[speech.folds[task] == 1])
    for voice in set(speech.speakers):
        halves = speech.folds[SPEAKER][speech.speakers == voice]
        assert abs(int(halves.sum()) - len(halves) / 2) <= 0.5
    assert bool((speech.seconds < 1.6).all())


def test_the_phone_at_a_time_or_none_in_a_pause():
    phones = (("a", 0.0, 0.1), ("b", 0.2, 0.3))
    assert [phone_at(phones, t) for t in (0.05, 0.15, 0.2, 0.3)] == ["a", None, "b", None]


def test_recordings_shorter_than_a_crop_are_left_out():
    utterance = Utterance("x", phones=(("a", 0.0, 1.0),))
    long, short = (Recording(utterance, lambda n=n: torch.ones(n)) for n in (16000, 8000))
    speech = downstream_speech(
        [long, short, long], dict.fromkeys(TASKS, within_speaker), crop_seconds=0.9, frames=2
    )
    assert len(speech.waveforms) == 2


def test_what_has_no_phones_is_left_out_of_the_probe_for_phones_alone():
    rng = np.random.default_rng(0)
    recordings = []
    for i in range(80):
        symbols = rng.permutation(["a", "b"])
        waveform = torch.cat([torch.full((8000,), {"a": 0.1, "b": 0.9}[symbol]) for symbol in symbols])
        phones = tuple((symbol, k / 2, (k + 1) / 2) for k, symbol in enumerate(symbols)) if i % 4 else ()
        utterance = Utterance(f"x/{i}", "en", "v" if i % 2 else "w", phones=phones)
        recordings.append(Recording(utterance, lambda x=waveform if i % 2 else -waveform: x))
    halves = {PHONE: within_speaker, SPEAKER: within_speaker, LANGUAGE: within_speaker}
    speech = downstream_speech(recordings, halves, crop_seconds=1.0, frames=12)
    assert len(speech.waveforms) == 80
    assert (speech.folds[PHONE] == LEFT_OUT).sum() == 20
    assert (speech.folds[SPEAKER] != LEFT_OUT).all()

    def encode(waveforms):
        frames = waveforms.unflatten(1, (-1, 160)).mean(dim=2)
        return torch.stack([frames.abs(), frames.sign()], dim=2)

    speech = replace(speech, languages=rng.choice(["en", "es"], size=80))
    found = accuracies(encode, speech)
    assert found[PHONE] == found[SPEAKER] == 1
    assert found[LANGUAGE] < 0.8


def test_crops_of_an_utterance_stay_in_one_fold():
    phones = tuple((symbol, 0.5 * i, 0.5 * (i + 1)) for i, symbol in enumerate("abcdef"))
    recordings = [
        Recording(Utterance(f"x/{i}", "en", "v", phones=phones), lambda: torch.arange(3 * RATE + 7) / RATE)
        for i in range(4)
    ]
    halves = dict.fromkeys(TASKS, within_speaker)
    speech = downstream_speech(recordings, halves, crop_seconds=1.0, frames=4, crops=5)
    assert speech.waveforms.shape == (12, RATE)
    assert speech.folds[PHONE].tolist() == [0] * 3 + [1] * 3 + [0] * 3 + [1] * 3
    starts = speech.waveforms[:, 0].double()
    assert starts.tolist() == [0, 1, 2] * 4
    at = ((starts[:, None] + speech.seconds) / 0.5).long().numpy()
    assert (np.array(list("abcdef"))[at] == speech.phones).all()
    assert len(downstream_speech(recordings, halves, crop_seconds=1.0, frames=4).waveforms) == 4
