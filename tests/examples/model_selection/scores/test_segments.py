"""Segments of the scoring corpus under every condition."""

import pytest
import torch

pytest.importorskip("torchaudio")

from lightning_mi.examples.model_selection.corpora.base import SCORE
from lightning_mi.examples.model_selection.scores.conditions import (
    ANCHOR,
    CONDITIONS,
    INDEPENDENT,
    LONG,
    NEAR,
    SHARED,
    SPEED,
)
from lightning_mi.examples.model_selection.scores.segments import SegmentCutter
from tests.helpers.model_selection import NO_CHANNEL


@pytest.fixture(scope="module")
def recordings(corpora):
    return corpora.load(SCORE)


@pytest.fixture(scope="module")
def segments(recordings):
    return SegmentCutter(NO_CHANNEL)(recordings)


def segment(segments, condition, name):
    return segments.waveforms[condition][:, CONDITIONS[condition].segments.index(name)].int()


def test_every_condition_has_its_segments(segments):
    every = torch.arange(len(segments.groups))
    for name, condition in CONDITIONS.items():
        length = 16000 if name == LONG else 8000
        assert segments.waveforms[name].shape == (len(segments.rows[name]), len(condition.segments), length)
        assert name not in (SHARED, INDEPENDENT, SPEED) or torch.equal(segments.rows[name], every)
    assert len(segments.groups.unique()) == len(segments.utterances)


def test_neighbours_begin_where_the_anchor_ends(segments, recordings):
    owner = next(r for r in recordings if r.utterance == segments.utterances[segments.groups[0]]).read()
    start = round(float(segments.ends[0]) * 16000)
    near = (owner[start : start + 8000] * 32768).round().int()
    anchor = (owner[start - 8000 : start] * 32768).round().int()
    assert (segment(segments, SHARED, NEAR)[0] - near).abs().max() <= 1
    assert (segment(segments, SHARED, ANCHOR)[0] - anchor).abs().max() <= 1


def test_long_segments_hold_the_others_of_the_anchors_with_room(segments, recordings):
    rows = segments.rows[LONG]
    assert 0 < len(rows) < len(segments.groups)
    assert (segment(segments, LONG, ANCHOR)[:, 8000:] - segment(segments, SHARED, ANCHOR)[rows]).abs().max() <= 1
    assert (segment(segments, LONG, NEAR)[:, :8000] - segment(segments, SHARED, NEAR)[rows]).abs().max() <= 1
    lengths = {r.utterance.id: len(r.read()) / 16000 for r in recordings}
    room = [
        1 <= end <= lengths[segments.utterances[group].id] - 1
        for end, group in zip(segments.ends.tolist(), segments.groups.tolist(), strict=True)
    ]
    assert rows.tolist() == [row for row, fits in enumerate(room) if fits]
