"""Resampling by windowed sinc interpolation: band-limited, by a ratio of small integers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_mi.torch_defaults import torch_defaults

_CROSSINGS = 6  # zero crossings of the sinc on either side
_ROLLOFF = 0.99  # of half of the lower rate, where the filter cuts


class SincResampler:
    """Waveforms of the rate ``old`` at the rate ``new``.

    Sample j of the result is the band-limited interpolation of the waveform at the time j / new: a sum of its
    samples, weighted by a sinc that cuts at half of the lower rate, under a Hann window. There are ``new`` such
    filters; sample j + new has that of sample j, ``old`` samples later.

    Args:
        old: Rate of the waveforms, divided by the greatest common divisor of both rates.
        new: The other rate, likewise.
        device: Of the waveforms.

    Source:
        Smith, "Digital Audio Resampling", https://ccrma.stanford.edu/~jos/resample/, with the width and the
        roll-off of torchaudio's ``resample``: the results are equal to rounding.

    Example:
        >>> SincResampler(1, 2)(torch.ones(300)).shape
        torch.Size([600])
    """

    def __init__(self, old: int, new: int, device: torch.device | str = "cpu") -> None:
        cutoff = _ROLLOFF * min(old, new)
        self.old, self.new = old, new
        self.reach = math.ceil(_CROSSINGS * old / cutoff)  # in samples of the waveform
        with torch_defaults():
            inputs = torch.arange(-self.reach, self.reach + old, dtype=torch.float64) / old
            outputs = torch.arange(new, dtype=torch.float64) / new
        crossings = ((inputs - outputs[:, None]) * cutoff).clamp(-_CROSSINGS, _CROSSINGS)
        window = torch.cos(crossings * (math.pi / _CROSSINGS / 2)) ** 2
        self.filters = (torch.sinc(crossings) * window * (cutoff / old)).to(device, torch.float32)[:, None]

    def __call__(self, waveform: Tensor) -> Tensor:
        """``(T,)`` float32 becomes ``(ceil(T new / old),)`` float32; around the waveform there is silence."""
        padded = torch.nn.functional.pad(waveform, (self.reach, self.reach + self.old))
        phases = torch.nn.functional.conv1d(padded[None, None], self.filters, stride=self.old)[0]
        return phases.mT.flatten()[: -(-self.new * len(waveform) // self.old)]
