"""What a microphone and a room do to an utterance: gain, spectral tilt and noise."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_PIVOT_HZ = 1000.0  # where the tilt neither raises nor lowers
_LOWEST_HZ = 60.0


@dataclass(frozen=True)
class Channel:
    """Ranges from which an utterance's channel is drawn, uniformly; ranges of no width are a fixed channel.

    Args:
        gain_db: Gain.
        tilt_db: Slope of the spectrum, in dB an octave.
        snr_db: Level of the speech over white noise, on the average over the utterance.
        sample_rate: In Hz.

    Example:
        >>> import torch
        >>> waveform = torch.sin(torch.arange(16000) / 5)
        >>> channel = Channel(gain_db=(-6.0, -6.0), snr_db=(200.0, 200.0))
        >>> round(float(channel.apply(waveform, "any key").std() / waveform.std()), 3)
        0.501
    """

    gain_db: tuple[float, float] = (0.0, 0.0)
    tilt_db: tuple[float, float] = (0.0, 0.0)
    snr_db: tuple[float, float] = (40.0, 40.0)
    sample_rate: int = 16000

    def apply(self, waveform: Tensor, key: str) -> Tensor:
        """The waveform ``(T,)`` float32 as it comes through the channel that ``key`` draws; the same key gives the
        same channel and the same noise."""
        rng = np.random.default_rng(int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big"))
        gain, tilt, snr = (float(rng.uniform(*ends)) for ends in (self.gain_db, self.tilt_db, self.snr_db))
        noise = torch.from_numpy(rng.standard_normal(len(waveform), dtype=np.float32))
        speech = _tilted(waveform, tilt, self.sample_rate) if tilt else waveform
        level = float(speech.square().mean().sqrt())
        return (speech + noise * level * 10 ** (-snr / 20)) * 10 ** (gain / 20)


def _tilted(waveform: Tensor, tilt_db: float, sample_rate: int) -> Tensor:
    spectrum = torch.fft.rfft(waveform)
    hertz = torch.fft.rfftfreq(len(waveform), 1 / sample_rate).clamp(min=_LOWEST_HZ)
    weight = 10 ** (tilt_db * torch.log2(hertz / _PIVOT_HZ) / 20)
    return torch.fft.irfft(spectrum * weight, n=len(waveform))
