"""What each condition does to the segments of an anchor."""

import pytest
import torch

pytest.importorskip("torchaudio")

from lightning_mi.examples.model_selection.corpora.channel import Channel
from lightning_mi.examples.model_selection.scores.conditions import (
    AGAIN,
    ANCHOR,
    CONDITIONS,
    FAR,
    INDEPENDENT,
    LATER,
    LONG,
    MOMENTS,
    NEAR,
    SAME,
    SHARED,
    SPEED,
    VIEW_LATER,
    VIEWS,
    WIDE_VIEWS,
    Anchor,
)
from tests.helpers.model_selection import NO_CHANNEL

STARTS = {ANCHOR: 16000, NEAR: 24000, LATER: 25600, FAR: 40000}


def anchor(samples=64000, starts=STARTS, key="a"):
    utterance = torch.sin(torch.arange(samples) / 7) * torch.linspace(0.1, 1, samples)
    return Anchor(utterance, starts, 8000, 16000, NO_CHANNEL, key)


def test_shared_segments_are_cut_from_the_utterance():
    made = anchor()
    for name, segment in CONDITIONS[SHARED].cut(made).items():
        assert torch.equal(segment, made.utterance[STARTS[name] : STARTS[name] + 8000])


def test_without_a_channel_independent_segments_are_the_shared_ones():
    shared, independent = (CONDITIONS[name].cut(anchor()) for name in (SHARED, INDEPENDENT))
    for name in CONDITIONS[INDEPENDENT].segments:
        assert (shared[name] - independent[name]).abs().max() < 1e-6


def test_long_segments_meet_at_the_end_of_the_anchor():
    made = anchor()
    found = CONDITIONS[LONG].cut(made)
    assert (found[ANCHOR] - made.utterance[8000:24000]).abs().max() < 1e-6
    assert (found[NEAR] - made.utterance[24000:40000]).abs().max() < 1e-6


@pytest.mark.parametrize(("start", "samples"), [(7999, 64000), (16000, 39999)])
def test_long_segments_need_room_on_both_sides(start, samples):
    assert CONDITIONS[LONG].cut(anchor(samples, {ANCHOR: start})) is None
    assert CONDITIONS[LONG].cut(anchor(40000, {ANCHOR: 16000})) is not None
    assert CONDITIONS[LONG].cut(anchor(64000, {ANCHOR: 8000})) is not None


def test_speeds_change_the_anchor_and_keep_its_end():
    made = anchor()
    found = CONDITIONS[SPEED].cut(made)
    assert (found[ANCHOR] - found[AGAIN]).abs().mean() > 0.01
    for segment in found.values():
        assert len(segment) == 8000
        assert segment[-1] == pytest.approx(float(made.utterance[23999]), abs=0.03)
    other = CONDITIONS[SPEED].cut(anchor(key="b"))
    assert not torch.equal(found[ANCHOR], other[ANCHOR])


@pytest.mark.parametrize(("name", "highest"), [(VIEWS, 1.3), (WIDE_VIEWS, 1.6)])
def test_views_have_their_moment_at_their_centre(name, highest):
    """Of a ramp, whose values are times: the centre is kept, and the slope is the speed."""
    time = torch.arange(64000.0)
    speeds = []
    for key in ("a", "b", "c"):
        made = Anchor(1e-5 * time, STARTS, 8000, 16000, NO_CHANNEL, key)
        for segment, samples in CONDITIONS[name].cut(made).items():
            assert len(samples) == 8000
            start = STARTS[FAR] if segment == FAR else STARTS[ANCHOR] + 16000 * MOMENTS.get(segment, 0)
            # Resampling rings at the ends of a ramp; its middle is smooth.
            assert 1e5 * samples[3990:4010].mean().item() == pytest.approx(start + 3999.5, abs=60)
            speeds.append(1e5 * (samples[5000:5100].mean() - samples[2900:3000].mean()).item() / 2100)
    assert len({round(speed, 2) for speed in speeds}) > len(speeds) / 2
    assert all(0.97 / highest < speed < 1.03 * highest for speed in speeds)
    assert max(speeds) > 1.1 > 0.9 > min(speeds)


def test_views_pass_a_channel_each():
    made = anchor()
    loud = Anchor(made.utterance, STARTS, 8000, 16000, Channel(), "a")
    quiet, found = (CONDITIONS[VIEWS].cut(each) for each in (made, loud))
    gains = [float(found[segment].std() / quiet[segment].std()) for segment in (ANCHOR, SAME, VIEW_LATER)]
    assert len({round(gain, 3) for gain in gains}) == 3


@pytest.mark.parametrize(("name", "margin"), [(VIEWS, 1200), (WIDE_VIEWS, 2400)])
def test_views_need_room_for_the_highest_speed(name, margin):
    cut = CONDITIONS[name].cut
    starts = {ANCHOR: margin, FAR: 40000}
    assert cut(anchor(48000 + margin, starts)) is not None
    assert cut(anchor(48000 + margin, starts | {ANCHOR: margin - 1})) is None
    assert cut(anchor(47999 + margin, starts)) is None
