"""Segments: where they are cut, which utterances have room for them, and that only samples and seed decide."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_mi.inputs.batches import Waveforms
from lightning_mi.inputs.channels import apply_independent_channels
from lightning_mi.inputs.layout import Layout
from lightning_mi.inputs.segments import SegmentSampler, parse_gaps

RATE = 1000


def sampler(gaps="near", seconds=0.5, seed=0):
    return SegmentSampler(seconds, parse_gaps(gaps), RATE, seed)


def ramp(num, length):
    """Each sample says where it stands; rows differ in their integer part."""
    return (torch.arange(num)[:, None] * 4096 + torch.arange(length)).float() + 1


def starts(segments):
    return (segments.samples[:, :, 0] - 1).long() % 4096


@pytest.mark.parametrize(
    ("gaps", "distances"), [("near", [(0, 0)]), (0.25, [(250, 250)]), (["far", 0], [(500, 2000), (0, 0)])]
)
def test_segments_are_whole_do_not_overlap_and_keep_their_distance(gaps, distances):
    waves = Waveforms(ramp(200, 3000), torch.full((200,), 3000))
    segments = sampler(gaps)(waves)
    assert segments.samples.shape == (200, 1 + len(distances), 500)
    step = segments.samples[:, :, 1:] - segments.samples[:, :, :-1]
    assert (step == 1).all()
    first = starts(segments)
    assert (first >= 0).all()
    assert (first <= 2500).all()
    for number, (low, high) in enumerate(distances, start=1):
        gap = first[:, number] - first[:, 0] - 500
        assert gap.min() >= low
        assert gap.max() <= high
    assert first[:, 0].unique().numel() > 100  # not always the same place


def test_independent_channels_change_the_samples_and_nothing_else():
    waves = Waveforms(torch.randn(20, 3000), torch.full((20,), 3000))
    shared = sampler(["near", "far"])(waves)
    own = SegmentSampler(0.5, parse_gaps(["near", "far"]), RATE, 0, channels="independent")(waves)
    for name in ("keys", "priorities", "groups", "rows", "starts"):
        assert torch.equal(getattr(own, name), getattr(shared, name))
    expected = apply_independent_channels(shared.samples, shared.keys, RATE)
    torch.testing.assert_close(own.samples, expected)
    assert (own.samples - shared.samples).abs().amax(dim=2).min() > 0.01


def test_far_partners_reach_from_the_minimum_to_the_end():
    segments = sampler("far")(Waveforms(ramp(2000, 3000), torch.full((2000,), 3000)))
    gap = starts(segments)[:, 1] - starts(segments)[:, 0] - 500
    assert gap.min() < 520
    assert gap.max() > 1800


def test_place_depends_on_the_utterance_and_the_seed_alone():
    x = torch.randn(50, 3000)
    lengths = torch.randint(1600, 3001, (50,))
    x = x * (torch.arange(3000) < lengths[:, None])
    whole = sampler(["near", "far"])(Waveforms(x, lengths))
    order = torch.randperm(50)
    again = sampler(["near", "far"])(Waveforms(torch.nn.functional.pad(x, (0, 777))[order], lengths[order]))
    assert torch.equal(again.keys, whole.keys[order])
    assert torch.equal(again.samples, whole.samples[order])
    one = sampler(["near", "far"])(Waveforms(x[7:8, None, : lengths[7]], lengths[7:8]))
    assert torch.equal(one.samples[0, :, 0], whole.samples[7])  # in the layout of the batch
    other = sampler(["near", "far"], seed=1)(Waveforms(x, lengths))
    assert torch.equal(other.keys, whole.keys)
    assert not torch.equal(other.samples, whole.samples)


def test_segments_stay_out_of_the_padding():
    lengths = torch.tensor([1000, 1001, 1500, 2999])
    x = torch.where(torch.arange(3000) < lengths[:, None], torch.rand(4, 3000) + 1, -9.0)
    assert sampler()(Waveforms(x, lengths)).samples.min() >= 1


@pytest.mark.parametrize(("gaps", "shortest"), [("near", 1000), ("far", 1500), ([0.1, 2.0], 3000)])
def test_too_short_utterances_are_left_out_and_counted(gaps, shortest):
    lengths = torch.tensor([shortest - 1, shortest, 0, 4000])
    segments = sampler(gaps)(Waveforms(torch.randn(4, 4000), lengths))
    assert sampler(gaps).shortest == shortest
    assert len(segments.samples) == len(segments.keys) == 2
    assert segments.too_short == 2


def test_silent_and_broken_segments_are_left_out_and_counted():
    x = torch.randn(5, 1000)
    x[0] = 0
    x[1, 500:] = 0.25  # a constant is silence too
    x[2, 700] = float("nan")
    x[3, 100] = float("inf")
    segments = sampler()(Waveforms(x, torch.full((5,), 1000)))
    assert segments.silent == 4
    assert torch.equal(segments.samples.flatten(), x[4])


def test_groups_of_the_batch_are_kept():
    groups = torch.tensor([5, 6, 7])
    segments = sampler()(Waveforms(torch.randn(3, 2000), torch.tensor([2000, 10, 2000]), groups))
    assert segments.groups.tolist() == [5, 7]
    plain = sampler()(Waveforms(torch.randn(3, 2000), torch.full((3,), 2000)))
    assert len(plain.groups.unique()) == 3


def test_several_pairs_of_one_utterance():
    lengths = torch.tensor([1000, 1499, 1500, 4000])
    many = SegmentSampler(0.5, parse_gaps("near"), RATE, 0, pairs_per_utterance=4)
    one = sampler()(Waveforms(ramp(4, 4000), lengths))
    segments = many(Waveforms(ramp(4, 4000), lengths))
    groups, counts = segments.groups.unique_consecutive(return_counts=True)
    assert torch.equal(groups, one.groups)
    assert counts.tolist() == [1, 1, 2, 4]
    assert len(segments.keys.unique()) == 8
    first = torch.tensor([0, 1, 2, 4])
    assert torch.equal(segments.samples[first], one.samples)  # the first pair is the one that is alone else
    assert torch.equal(segments.keys[first], one.keys)
    assert len(starts(segments)[4:, 0].unique()) == 4
    # First pairs of all utterances come before all second ones, and so on.
    assert segments.priorities[first].max() < segments.priorities[[3, 5]].min()
    assert segments.priorities[[3, 5]].max() < segments.priorities[6:].min()
    assert (segments.priorities >= 0).all()


def test_views_of_one_moment_lie_where_they_should():
    plain = sampler(["same", "later", "near", "far"])(Waveforms(ramp(200, 3000), torch.full((200,), 3000)))
    first = starts(plain)
    assert torch.equal(first, plain.starts)
    assert torch.equal(first[:, 1], first[:, 0])
    assert (first[:, 2] - first[:, 0] == 80).all()  # 80 ms
    assert (first[:, 3] - first[:, 0] == 500).all()
    assert (first[:, 4] - first[:, 0] >= 1000).all()
    assert (plain.lengths == 500).all()


@pytest.mark.parametrize(
    ("gaps", "shortest"), [("same", 650), ("later", 730), ("near", 1300), (["same", "far"], 1800)]
)
def test_views_at_random_speeds_keep_their_centres(gaps, shortest):
    """A segment takes the room of 1.3 segments; what it holds is the utterance at its own speed."""
    moving = SegmentSampler(0.5, parse_gaps(gaps), RATE, seed=0, speed=1.3)
    assert moving.shortest == shortest
    time = torch.arange(4000, dtype=torch.float64)
    phase = 2 * torch.pi * torch.stack([0.011 * time, 0.0173 * time])
    x = torch.sin(phase + torch.arange(30)[:, None, None]).sum(dim=1).float()
    segments = moving(Waveforms(x, torch.full((30,), 4000)))
    centres = segments.starts + (segments.lengths - 1) / 2
    if gaps in ("same", ["same", "far"]):
        assert (centres[:, 1] - centres[:, 0]).abs().max() <= 1  # whole samples
    assert segments.starts.min() >= 0
    assert (segments.starts + segments.lengths).max() <= 4000
    speeds = segments.lengths / 500
    assert speeds.min() > 1 / 1.31
    assert speeds.max() < 1.31
    assert (speeds[:, 1] - speeds[:, 0]).abs().median() > 0.05
    inner = torch.arange(100, 400)
    for row in range(30):
        for number in range(segments.samples.shape[1]):
            at = centres[row, number] + (inner - 249.5) * speeds[row, number]
            angles = 2 * torch.pi * torch.stack([0.011 * at, 0.0173 * at]) + float(segments.rows[row])
            error = segments.samples[row, number, 100:400] - torch.sin(angles).sum(dim=0)
            assert error.abs().max() < 0.12  # centre and speed are rounded


def test_speed_changes_neither_keys_nor_the_choice_of_utterances():
    waves = Waveforms(torch.randn(20, 3000), torch.full((20,), 3000))
    moving = SegmentSampler(0.5, parse_gaps("same"), RATE, 0, speed=1.3, channels="independent")
    segments, plain = moving(waves), sampler("same")(waves)
    for name in ("keys", "priorities", "groups", "rows"):
        assert torch.equal(getattr(segments, name), getattr(plain, name))
    one = moving(Waveforms(waves.samples[7:8], waves.lengths[7:8]))
    torch.testing.assert_close(one.samples[0], segments.samples[7])


def test_silence_that_no_speed_would_leave_is_left_out():
    x = torch.randn(2, 650)
    x[0, 130:520] = 0.5  # all that is heard at the lowest speed
    x[1, 200:450] = 0.5
    segments = SegmentSampler(0.5, parse_gaps("same"), RATE, 0, speed=1.3)(Waveforms(x, torch.full((2,), 650)))
    assert segments.silent == 1
    assert segments.rows.tolist() == [1]


def test_a_batch_of_too_short_utterances_has_no_segments():
    segments = sampler()(Waveforms(torch.randn(3, 10), torch.full((3,), 10)))
    assert segments.samples.shape == (0, 2, 500)
    assert segments.too_short == 3


@pytest.mark.parametrize(
    ("gaps", "error", "message"),
    [
        (-0.5, ValueError, "must not be negative"),
        (float("nan"), ValueError, "must not be negative and must be finite"),
        ("middle", ValueError, '"near" or "far", got \'middle\''),
        ([], ValueError, "a distance or a list of distances"),
        (["near", 0.5, 0.5], ValueError, "different distances"),
        ([None], TypeError, "got None"),
        (True, TypeError, "got True"),
        (None, ValueError, "a distance or a list"),
    ],
)
def test_bad_gaps_are_named(gaps, error, message):
    with pytest.raises(error, match=message) as raised:
        parse_gaps(gaps)
    assert "`gap_seconds`" in str(raised.value)


GAPS = st.one_of(st.sampled_from(["near", "far"]), st.floats(0, 1e6), st.integers(0, 1000))


@settings(max_examples=60, deadline=None)
@given(st.lists(GAPS, min_size=1, max_size=5))
def test_gaps_keep_their_order_and_have_names_of_their_own(entries):
    names = [entry if isinstance(entry, str) else format(entry, "g") for entry in entries]
    if len(set(names)) < len(names):
        with pytest.raises(ValueError, match="different distances"):
            parse_gaps(entries)
        return
    gaps = parse_gaps(entries)
    assert [gap.name for gap in gaps] == names
    assert [gap.random for gap in gaps] == [entry == "far" for entry in entries]
    for gap, entry in zip(gaps, entries, strict=True):
        assert gap.seconds == {"near": 0.0, "far": 0.5}.get(entry, entry)
        assert parse_gaps(entry) == (gap,)


# ---- feature sequences


def of_frames(time_dim=1, gaps="near", seconds=0.5, rate=31.25):
    return SegmentSampler(seconds, parse_gaps(gaps), rate, seed=0, layout=Layout(time_dim))


def test_sequences_of_one_feature_are_cut_as_waveforms():
    x, lengths = torch.randn(50, 3000), torch.randint(1600, 3001, (50,))
    expected = sampler(["near", "far"])(Waveforms(x, lengths))
    for time_dim, dim in ((1, 2), (2, 1)):
        one = of_frames(time_dim, ["near", "far"], rate=RATE)(Waveforms(x.unsqueeze(dim), lengths))
        assert torch.equal(one.samples.squeeze(dim + 1), expected.samples)
        for name in ("keys", "priorities", "groups", "rows", "starts"):
            assert torch.equal(getattr(one, name), getattr(expected, name)), name


@pytest.mark.parametrize("time_dim", [1, 2])
def test_segments_of_sequences_are_whole(time_dim):
    """Each value says in which row, at which frame and in which feature it stands."""
    x = 1e4 * torch.arange(20)[:, None, None] + 10 * torch.arange(200)[:, None] + torch.arange(3) + 1
    lengths = torch.randint(60, 201, (20,))
    segments = of_frames(time_dim, gaps=["far", 0.25])(Waveforms(x if time_dim == 1 else x.mT, lengths))
    cut = segments.samples if time_dim == 1 else segments.samples.mT
    assert cut.shape == (20, 3, 16, 3)  # 15.6 frames
    for row, (first, near, far) in enumerate(segments.starts[:, [0, 2, 1]].tolist()):
        for segment, start in enumerate((first, far, near)):
            assert torch.equal(cut[row, segment], x[row, start : start + 16])
        assert near - first == 16 + 8  # 7.8 frames
        assert far - first >= 16 + 16  # half a second is more than 15 frames
        assert max(near, far) + 16 <= lengths[row]


def test_the_name_of_a_sequence_is_its_frames_in_their_order():
    x, lengths = torch.randn(4, 100, 5), torch.tensor([100, 80, 100, 64])
    keys = of_frames()(Waveforms(x, lengths)).keys
    padded = torch.nn.functional.pad(x, (0, 0, 0, 30), value=9.0)
    assert torch.equal(of_frames()(Waveforms(padded, lengths)).keys, keys)
    assert torch.equal(of_frames(2)(Waveforms(padded.mT, lengths)).keys, keys)
    for other in (x.flip(2), x.roll(1, dims=1), x[..., [1, 0, 2, 3, 4]]):
        assert not torch.isin(of_frames()(Waveforms(other, lengths)).keys, keys).any()


def test_silent_and_broken_sequences_are_left_out_and_counted():
    x = torch.randn(6, 32, 4)
    x[0] = 0
    x[1, 16:] = x[1, 16]  # a frame that stands still is silence too
    x[2, 20, 3] = float("nan")
    x[3, 5, 0] = float("inf")
    x[4, :, 1] = 0  # a dead channel is none
    segments = of_frames()(Waveforms(x, torch.full((6,), 32)))
    assert segments.silent == 4
    assert segments.rows.tolist() == [4, 5]


def test_a_segment_may_be_one_frame():
    x = torch.randn(3, 2, 4)
    x[1, 1] = 0
    segments = of_frames(seconds=1, rate=1)(Waveforms(x, torch.full((3,), 2)))
    assert torch.equal(segments.samples, x[[0, 2], :, None])
    assert segments.silent == 1
