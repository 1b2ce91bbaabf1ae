"""Poolings of the embeddings, and what they are taken of."""

import pytest
import torch

pytest.importorskip("torchaudio")

from lightning_mi.examples.model_selection.corpora.base import SCORE
from lightning_mi.examples.model_selection.corpora.channel import Channel
from lightning_mi.examples.model_selection.scores.conditions import (
    AGAIN,
    ANCHOR,
    CONDITIONS,
    INDEPENDENT,
    NEAR,
    SHARED,
    SPEED,
)
from lightning_mi.examples.model_selection.scores.embed import (
    BOUNDARY,
    CENTER,
    FRAMES_PER_ANCHOR,
    MEAN,
    embed,
)
from lightning_mi.examples.model_selection.scores.segments import SegmentCutter


def encode(waveforms):
    return waveforms.unfold(1, 400, 400).square()  # (B, 20, 400)


@pytest.fixture(scope="module")
def segments(corpora):
    return SegmentCutter(Channel())(corpora.load(SCORE)[:3])


def test_means_and_frames_next_to_the_border(segments):
    embedded = embed(encode, segments)
    assert embedded.is_finite()
    anchors = encode(segments.waveforms[SHARED][:, 0].float() / 32768)
    nears = encode(segments.waveforms[SHARED][:, 1].float() / 32768)
    torch.testing.assert_close(embedded.of(SHARED, ANCHOR, MEAN), anchors.mean(1))
    torch.testing.assert_close(embedded.of(SHARED, ANCHOR, BOUNDARY), anchors[:, -1])
    torch.testing.assert_close(embedded.of(SHARED, NEAR, BOUNDARY), nears[:, 0])
    torch.testing.assert_close(embedded.of(SHARED, NEAR, CENTER), nears[:, 10])
    again = encode(segments.waveforms[SPEED][:, 1].float() / 32768)
    torch.testing.assert_close(embedded.of(SPEED, AGAIN, BOUNDARY), again[:, -1])
    assert embedded.frames.shape == (len(segments.groups), FRAMES_PER_ANCHOR, 400)


def test_some_conditions_are_embedded_alone(segments):
    embedded = embed(encode, segments, conditions=[INDEPENDENT])
    assert [name for name in CONDITIONS if embedded.has(name)] == [INDEPENDENT]
    assert len(embedded.frames) == 0
    whole = embed(encode, segments)
    assert torch.equal(embedded.of(INDEPENDENT, NEAR, MEAN), whole.of(INDEPENDENT, NEAR, MEAN))


def test_a_model_without_frames_is_an_error(segments):
    with pytest.raises(ValueError, match="expected a model whose output is"):
        embed(lambda waveforms: waveforms[:, :4], segments)


def test_a_diverged_model_is_not_finite(segments):
    assert not embed(lambda waveforms: encode(waveforms) / 0, segments).is_finite()
