"""Recordings of a part pass the channel, each its own draw."""

import pytest
import torch

pytest.importorskip("torchaudio")

from lightning_mi.examples.model_selection.corpora.base import SCORE


def test_every_recording_passes_a_draw_of_the_channel(corpora):
    for before, after in zip(corpora.load(SCORE), corpora.recordings(SCORE), strict=True):
        assert after.utterance == before.utterance
        expected = corpora.channel.apply(before.read(), before.utterance.id)
        assert (after.read() - expected.clamp(-1, 1)).abs().max() < 1e-4
        assert not torch.equal(after.read(), before.read())


def test_an_unknown_part_is_an_error(corpora):
    with pytest.raises(ValueError, match="part='test': expected one of train, score, downstream"):
        corpora.load("test")
