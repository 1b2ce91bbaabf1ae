"""Spectra on the mel scale, in the variants that the encoders were trained on."""

from __future__ import annotations

import torch
import torchaudio.functional as AF
from torch import Tensor, nn

SAMPLE_RATE = 16000
"""Samples a second, of every encoder's input."""


class MelSpectrum(nn.Module):
    """Mel spectrum, ``(B, T)`` waveforms -> ``(B, T', bands)``.

    Args:
        bands: Number of bands.
        n_fft: Length of the Fourier transform and of the window, in samples.
        hop: Samples from one frame to the next.
        window: Length of the window, if it is not ``n_fft``.
        power: 2 for powers, 1 for magnitudes.
        slaney: Slaney's mel scale and areas, as librosa has it, instead of HTK's.
        low: Lowest frequency in Hz.
        high: Highest frequency in Hz.
    """

    def __init__(
        self,
        bands: int,
        n_fft: int,
        hop: int,
        *,
        window: int | None = None,
        power: float = 2.0,
        slaney: bool = True,
        low: float = 0.0,
        high: float = SAMPLE_RATE / 2,
    ) -> None:
        super().__init__()
        self.n_fft, self.hop, self.power = n_fft, hop, power
        self.window = torch.hann_window(window or n_fft)
        scale, norm = ("slaney", "slaney") if slaney else ("htk", None)
        self.filters = AF.melscale_fbanks(n_fft // 2 + 1, low, high, bands, SAMPLE_RATE, norm, scale)

    def forward(self, waveforms: Tensor) -> Tensor:
        """The spectrum of frames whose middles are ``hop`` apart, the first at the first sample."""
        return self.linear(waveforms) @ self.filters

    def linear(self, waveforms: Tensor) -> Tensor:
        """The same before the mel scale, ``(B, T', n_fft // 2 + 1)``."""
        spectrum = torch.stft(
            waveforms,
            self.n_fft,
            self.hop,
            len(self.window),
            self.window,
            center=True,
            pad_mode="reflect",
            return_complex=True,
        )
        return spectrum.abs().pow(self.power).mT
