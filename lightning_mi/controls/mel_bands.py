"""Mel bands: triangular filters, equally wide on the mel scale, over the bins of a spectrum."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_mi.torch_defaults import torch_defaults

_MEL, _HERTZ = 2595.0, 700.0  # of the HTK scale: mel = 2595 log10(1 + hertz / 700)


def mel_bands(num_bins: int, num_bands: int, sample_rate: int) -> Tensor:
    """Weights of the bins of a power spectrum in each of the bands between 0 Hz and half of the sampling rate.

    Band m rises linearly from the centre of band m - 1 to 1 at its own centre, and falls to the centre of band
    m + 1. A band that is narrower than a bin may be 0 everywhere.

    Args:
        num_bins: Number of bins from 0 Hz to half of the sampling rate, both included.
        num_bands: Number of bands.
        sample_rate: In Hz.

    Returns:
        ``(num_bins, num_bands)`` float32 on the host: those of torchaudio's ``melscale_fbanks`` with
        ``norm=None``, ``mel_scale="htk"``.

    Source:
        Davis and Mermelstein, "Comparison of parametric representations for monosyllabic word recognition", IEEE
        TASSP 1980, for the triangles; Young et al., "The HTK Book", for the scale.

    Example:
        >>> mel_bands(num_bins=5, num_bands=2, sample_rate=8000)[1:4]
        tensor([[0.6759, 0.3241],
                [0.0000, 0.9055],
                [0.0000, 0.4528]])
    """
    highest = _MEL * math.log10(1.0 + sample_rate / 2 / _HERTZ)
    with torch_defaults():
        hertz = torch.linspace(0, sample_rate // 2, num_bins)
        edges = _HERTZ * (10.0 ** (torch.linspace(0, highest, num_bands + 2) / _MEL) - 1.0)
    widths = edges.diff()
    apart = edges - hertz[:, None]
    rising, falling = -apart[:, :-2] / widths[:-1], apart[:, 2:] / widths[1:]
    return torch.minimum(rising, falling).clamp(min=0)
