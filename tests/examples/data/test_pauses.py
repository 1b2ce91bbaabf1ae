"""Recordings are cut at their pauses."""

import pytest
import torch

from lightning_mi.examples.data.pauses import pauses, utterances_in

RATE = 16000


def test_long_recordings_are_cut_in_their_pauses():
    tone = torch.sin(torch.arange(2 * RATE) / 3)
    silence = torch.zeros(RATE // 2)
    recording = torch.cat([silence, tone, silence, tone, silence, tone])
    found = utterances_in(recording, RATE, shortest=1.0, longest=4.0, side=1.7)
    assert found == [(0.45, 2.55), (2.95, 5.05), (5.45, 7.5)]
    assert utterances_in(recording, RATE, shortest=3.0, longest=4.0, side=1.7) == []
    assert utterances_in(1e-4 * torch.randn(4 * RATE), RATE, 1.0, 4.0, 1.7) == []
    assert utterances_in(torch.zeros(0), RATE, 1.0, 4.0, 1.7) == []
    with pytest.raises(ValueError, match="longest=3"):
        utterances_in(recording, RATE, 1.0, 3.0, 1.7)


def test_short_silence_is_a_pause_at_the_ends_only():
    tone = torch.sin(torch.arange(RATE // 2) / 3)
    short, long = torch.zeros(RATE // 10), torch.zeros(RATE // 5)
    found = pauses(torch.cat([short, tone, short, tone, long, tone]), RATE)
    assert found[:10].all()
    assert not found[10:120].any()
    assert found[120:140].all()
    assert not found[140:].any()
