"""Noise that stands in for speech."""

import pytest
import torch

pytest.importorskip("torchaudio")

from lightning_mi.examples.model_selection.corpora.base import TRAIN
from lightning_mi.examples.model_selection.corpora.data_module import ZooData, white_noise_like


def test_noise_has_the_level_of_the_speech_and_is_white(corpora):
    recording = corpora.recordings(TRAIN)[0]
    speech, noise = recording.read(), white_noise_like(recording).read()
    assert noise.std() == pytest.approx(float(speech.std()), rel=0.05)
    assert abs(float((noise[1:] * noise[:-1]).mean() / noise.square().mean())) < 0.05


@pytest.mark.parametrize("noise", [False, True])
def test_noise_replaces_the_training_speech_alone(corpora, noise):
    recordings = corpora.recordings(TRAIN)
    train, validation = ZooData(recordings, recordings, batch_size=4, crop_seconds=1.0, noise=noise).load_split()
    same = [torch.equal(a.read(), b.read()) for a, b in zip(train, recordings, strict=True)]
    assert same == [not noise] * len(recordings)
    assert validation == recordings
