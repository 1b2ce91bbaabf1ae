"""Playing at a speed, against sine waves, whose samples are known at any time."""

import math

import pytest
import torch

from lightning_mi.inputs.speed import draw_speeds, extent, play

RATE = 16000


def tone(hertz, at):
    """Samples of a sine wave at the times ``at``, in samples."""
    return torch.sin(2 * math.pi * hertz * at.double() / RATE + 0.3).float()


@pytest.mark.parametrize("speed", [1 / 1.3, 1.0, 1.1, 1.3])
@pytest.mark.parametrize(("hertz", "decibels"), [(200, -80), (1000, -70), (3000, -45), (5000, -30)])
def test_tones_are_read_at_the_times_that_the_speed_says(hertz, decibels, speed):
    available, length = extent(4000, 1.3), 4000
    samples = tone(hertz, torch.arange(available))
    played = play(samples[None, None], torch.tensor([[speed]], dtype=torch.float64), length)[0, 0]
    times = (available - 1) / 2 + (torch.arange(length) - (length - 1) / 2).double() * speed
    error = (played - tone(hertz, times))[500:-500]  # the ends are heard through the cut
    assert 10 * math.log10(2 * error.square().mean() + 1e-12) < decibels


def test_what_would_fold_over_is_left_out():
    high = tone(7000, torch.arange(5200))[None, None]
    assert play(high, torch.tensor([[1.25]]), 4000)[..., 500:-500].abs().max() < 0.02  # 8750 Hz: above the half
    assert play(high, torch.tensor([[1.1]]), 4000)[..., 500:-500].abs().max() > 0.9


@pytest.mark.parametrize("length", [1, 7, 8, 801])
def test_at_speed_1_the_middle_stays_as_it_is(length):
    samples = torch.randn(3, 2, extent(length, 1.3))
    around = (samples.shape[-1] - length) // 2
    played = play(samples, torch.ones(3, 2, dtype=torch.float64), length)
    torch.testing.assert_close(played, samples[..., around : around + length], atol=1e-5, rtol=0)


def test_there_is_room_for_every_speed():
    for length in (1, 2, 5, 400, 7999):
        for speed in (1.0, 1.01, 1.3, 2.0):
            assert extent(length, speed) >= length * speed - 1
            assert (extent(length, speed) - length) % 2 == 0
    assert extent(8000, 1.0) == 8000


def test_speeds_are_log_uniform_and_a_segment_has_its_own():
    speeds = draw_speeds(torch.arange(4000), 3, speed=1.3, seed=1).log() / math.log(1.3)
    assert speeds.min() > -1
    assert speeds.max() < 1
    assert speeds.mean().abs() < 0.05
    assert speeds.var() == pytest.approx(1 / 3, abs=0.02)  # of a uniform number on (-1, 1)
    assert torch.corrcoef(speeds.T).fill_diagonal_(0).abs().max() < 0.06


def test_a_row_does_not_depend_on_its_batch():
    keys = torch.arange(40)
    samples = torch.randn(40, 2, 130_000)  # several blocks
    speeds = draw_speeds(keys, 2, 1.3)
    some = torch.tensor([3, 17, 39])
    assert torch.equal(draw_speeds(keys[some], 2, 1.3), speeds[some])
    whole = play(samples, speeds, 100_000)
    torch.testing.assert_close(play(samples[some], speeds[some], 100_000), whole[some])
    assert play(samples[:0], speeds[:0], 100_000).shape == (0, 2, 100_000)


def test_half_precision_stays_half_precision():
    assert play(torch.randn(1, 1, 130).half(), torch.tensor([[1.2]]), 100).dtype == torch.float16
