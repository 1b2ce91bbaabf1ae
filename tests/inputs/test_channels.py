"""A channel for every segment, against what it says of itself."""

import math

import pytest
import torch

from lightning_mi.inputs.channels import GAIN_DB, SNR_DB, TILT_DB, apply_independent_channels

RATE = 16000


def tone(hertz, samples=8000):
    return torch.sin(2 * math.pi * hertz * torch.arange(samples) / RATE)


def decibels(x):
    return 20 * torch.log10(x.square().mean(-1).sqrt())


def amplitude(x, hertz):
    """Of the tone of that frequency in ``x``, in dB, whatever else there is."""
    time = 2 * math.pi * hertz * torch.arange(x.shape[-1]) / RATE
    return 20 * torch.log10((x @ torch.cos(time)).hypot(x @ torch.sin(time)) * 2 / x.shape[-1])


def test_gain_tilt_and_noise_are_within_their_ranges_and_fill_them():
    keys = torch.arange(400)
    changed = apply_independent_channels((tone(1000) + tone(4000)).expand(400, 2, 8000), keys, RATE)
    gain = amplitude(changed, 1000)
    tilt = (amplitude(changed, 4000) - gain) / 2  # two octaves
    for values, (low, high) in ((gain, GAIN_DB), (tilt, TILT_DB)):
        width = high - low
        assert values.min() > low - 0.3
        assert values.max() < high + 0.3
        assert values.max() - values.min() > 0.95 * width
        assert abs(values.mean() - (low + high) / 2) < 0.1 * width
    time = torch.stack([tone(f) for f in (1000, 4000)] + [tone(f).roll(-2) for f in (1000, 4000)])
    rest = changed.flatten(0, 1)
    fitted = torch.linalg.lstsq(time.T.expand(len(rest), -1, -1), rest[..., None]).solution
    noise = rest - (time.T @ fitted)[..., 0]
    snr = decibels(rest - noise) - decibels(noise)
    assert SNR_DB[0] - 0.5 < snr.min() < SNR_DB[0] + 2
    assert SNR_DB[1] - 2 < snr.max() < SNR_DB[1] + 0.5


def test_segments_of_one_utterance_do_not_share_a_channel():
    changed = apply_independent_channels(tone(1000).expand(500, 2, 8000), torch.arange(500), RATE)
    gains = amplitude(changed, 1000)
    assert torch.corrcoef(gains.T)[0, 1].abs() < 0.15


def test_noise_is_white_and_nowhere_the_same():
    samples = 0.001 * tone(100).expand(1, 2, 8000) + 0.5 * torch.ones(1, 2, 8000)
    changed = apply_independent_channels(samples, torch.tensor([3]), RATE)[0]
    noise = changed - changed.mean(-1, keepdim=True)
    noise = torch.diff(noise)  # without the tone, nearly
    assert abs(torch.corrcoef(noise)[0, 1]) < 0.05


def test_neither_order_nor_batch_nor_epoch_matters():
    samples, keys = torch.randn(6, 3, 1000), torch.arange(6) * 1234567
    all_at_once = apply_independent_channels(samples, keys, RATE, seed=1)
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    torch.testing.assert_close(
        apply_independent_channels(samples[order], keys[order], RATE, seed=1), all_at_once[order]
    )
    one = apply_independent_channels(samples[2:3], keys[2:3], RATE, seed=1)
    torch.testing.assert_close(one, all_at_once[2:3])
    assert not torch.allclose(apply_independent_channels(samples, keys, RATE, seed=2), all_at_once)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dtype_and_shape_stay(dtype):
    samples = torch.randn(2, 2, 401).to(dtype)
    changed = apply_independent_channels(samples, torch.arange(2), RATE)
    assert (changed.shape, changed.dtype) == (samples.shape, dtype)
    assert bool(torch.isfinite(changed).all())


def test_random_generators_are_left_alone():
    before = torch.get_rng_state()
    apply_independent_channels(torch.randn(1, 2, 100, generator=torch.Generator()), torch.arange(1), RATE)
    assert torch.equal(before, torch.get_rng_state())


def test_no_segments_are_no_error():
    """A batch of which no utterance is long enough."""
    assert apply_independent_channels(torch.empty(0, 2, 8000), torch.empty(0, dtype=torch.int64), RATE).shape == (
        0,
        2,
        8000,
    )
