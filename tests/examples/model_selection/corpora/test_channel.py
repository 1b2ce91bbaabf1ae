"""Gain, tilt and noise are what the ranges say."""

import math

import pytest
import torch

pytest.importorskip("torchaudio")

from lightning_mi.examples.model_selection.corpora.channel import Channel
from lightning_mi.inputs.channels import GAIN_DB, SNR_DB, TILT_DB

FLAT = {"gain_db": (0.0, 0.0), "tilt_db": (0.0, 0.0), "snr_db": (200.0, 200.0)}


def test_gain_tilt_and_noise_have_their_decibels():
    waveform = torch.sin(2 * math.pi * 4000 * torch.arange(16000) / 16000)
    tilted = Channel(**FLAT | {"tilt_db": (3.0, 3.0)}).apply(waveform, "a")
    assert 20 * math.log10(tilted.std() / waveform.std()) == pytest.approx(6, abs=0.1)  # two octaves above 1 kHz
    noisy = Channel(**FLAT | {"snr_db": (10.0, 10.0)}).apply(waveform, "a")
    assert 20 * math.log10(waveform.std() / (noisy - waveform).std()) == pytest.approx(10, abs=0.2)
    louder = Channel(**FLAT | {"gain_db": (6.0, 6.0)}).apply(waveform, "a")
    assert 20 * math.log10(louder.std() / waveform.std()) == pytest.approx(6, abs=0.01)


def test_a_channel_is_drawn_by_its_key_from_the_callbacks_ranges():
    waveform = torch.sin(torch.arange(16000) / 3)
    channel = Channel()
    assert torch.equal(channel.apply(waveform, "a"), channel.apply(waveform, "a"))
    assert not torch.equal(channel.apply(waveform, "a"), channel.apply(waveform, "b"))
    assert (channel.gain_db, channel.tilt_db, channel.snr_db) == (GAIN_DB, TILT_DB, SNR_DB)
