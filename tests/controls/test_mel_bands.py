"""Mel bands against torchaudio's and against their definition."""

import math

import pytest
import torch

from lightning_mi.controls.mel_bands import mel_bands

SHAPES = [(201, 40, 16000), (101, 40, 8000), (552, 40, 44100), (139, 40, 11025), (3, 1, 100), (13, 6, 1000)]


@pytest.mark.parametrize(("num_bins", "num_bands", "rate"), SHAPES)
@pytest.mark.filterwarnings("ignore:At least one mel filterbank")
def test_mel_bands_are_those_of_torchaudio(num_bins, num_bands, rate):
    torchaudio = pytest.importorskip("torchaudio", exc_type=(ImportError, OSError, RuntimeError))
    reference = torchaudio.functional.melscale_fbanks(num_bins, 0.0, rate / 2, num_bands, rate)
    torch.testing.assert_close(mel_bands(num_bins, num_bands, rate), reference, atol=1e-6, rtol=1e-6)


def test_a_band_is_a_triangle_between_the_centres_of_its_neighbours():
    """In double precision, bin by bin."""
    num_bins, num_bands, rate = 201, 40, 16000

    def centre(number):
        mel = 2595 * math.log10(1 + rate / 2 / 700) * number / (num_bands + 1)
        return 700 * (10 ** (mel / 2595) - 1)

    def weight(hertz, band):
        low, middle, high = (centre(band + number) for number in range(3))
        return max(0.0, min((hertz - low) / (middle - low), (high - hertz) / (high - middle)))

    bins = [rate / 2 * number / (num_bins - 1) for number in range(num_bins)]
    reference = torch.tensor([[weight(hertz, band) for band in range(num_bands)] for hertz in bins])
    torch.testing.assert_close(mel_bands(num_bins, num_bands, rate), reference, atol=1e-4, rtol=0)
