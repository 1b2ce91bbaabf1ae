"""Acoustic channel of an utterance: gain, spectral tilt and noise, drawn at random."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lightning_mi.inputs.channels import GAIN_DB, SNR_DB, TILT_DB, apply_tilt


@dataclass(frozen=True)
class Channel:
    """Ranges from which a channel is drawn, uniformly; ranges of no width are one fixed channel.

    The defaults are those of the callback's ``channels="independent"``.

    Args:
        gain_db: Gain.
        tilt_db: Slope of the spectrum, in dB an octave.
        snr_db: Level of the speech over white noise, on average over the waveform.
        sample_rate: Samples a second.

    Example:
        >>> import torch
        >>> waveform = torch.sin(torch.arange(16000) / 5)
        >>> channel = Channel(gain_db=(-6.0, -6.0), tilt_db=(0.0, 0.0), snr_db=(200.0, 200.0))
        >>> round(float(channel.apply(waveform, "any key").std() / waveform.std()), 3)
        0.501
    """

    gain_db: tuple[float, float] = GAIN_DB
    tilt_db: tuple[float, float] = TILT_DB
    snr_db: tuple[float, float] = SNR_DB
    sample_rate: int = 16000

    def apply(self, waveform: Tensor, key: str) -> Tensor:
        """Pass a waveform ``(T,)`` float32 through the channel that ``key`` draws.

        The same key gives the same channel and the same noise.
        """
        rng = np.random.default_rng(int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big"))
        gain, tilt, snr = (float(rng.uniform(*ends)) for ends in (self.gain_db, self.tilt_db, self.snr_db))
        noise = torch.from_numpy(rng.standard_normal(len(waveform), dtype=np.float32))
        speech = apply_tilt(waveform, torch.tensor(tilt), self.sample_rate) if tilt else waveform
        level = float(speech.square().mean().sqrt())
        return (speech + noise * level * 10 ** (-snr / 20)) * 10 ** (gain / 20)
