"""Resampling, against torchaudio's and pure tones."""

import math

import pytest
import torch

from lightning_mi.inputs.resampling import SincResampler

RATIOS = [(1, 2), (2, 1), (441, 160), (160, 441), (3, 1), (1, 6), (320, 441)]


def tone(hertz, rate, seconds=0.5):
    return torch.sin(2 * math.pi * hertz * torch.arange(int(rate * seconds), dtype=torch.float64) / rate).float()


@pytest.mark.parametrize(("old", "new"), RATIOS)
@pytest.mark.parametrize("length", [1, 7, 5000])
def test_it_is_torchaudios_to_rounding(old, new, length):
    torchaudio = pytest.importorskip("torchaudio", exc_type=(ImportError, OSError, RuntimeError))
    waveform = torch.randn(length, generator=torch.Generator().manual_seed(length))
    expected = torchaudio.functional.resample(waveform.double(), old, new).float()  # in float32 off by up to 1e-4
    torch.testing.assert_close(SincResampler(old, new)(waveform), expected, atol=2e-6, rtol=0.0)


@pytest.mark.parametrize(("old", "new"), [(8000, 16_000), (44_100, 16_000), (22_050, 16_000), (48_000, 16_000)])
def test_a_tone_is_the_same_tone_at_the_other_rate(old, new):
    divisor = math.gcd(old, new)
    found = SincResampler(old // divisor, new // divisor)(tone(440, old))
    inner = slice(new // 20, -new // 20)  # the silence around it is part of the signal
    torch.testing.assert_close(found[inner], tone(440, new)[inner], atol=2e-3, rtol=0.0)


def test_a_tone_above_half_of_the_new_rate_is_cut_and_not_folded():
    found = SincResampler(3, 1)(tone(11_000, 48_000))  # folded it would be 5000 Hz
    assert found[800:-800].abs().max() < 5e-3


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16])
def test_torchs_default_dtype_changes_nothing(default):
    waveform = tone(300, 8000)
    expected = SincResampler(1, 2)(waveform)
    before = torch.get_default_dtype()
    torch.set_default_dtype(default)
    try:
        found = SincResampler(1, 2)(waveform)
    finally:
        torch.set_default_dtype(before)
    assert torch.equal(found, expected)
