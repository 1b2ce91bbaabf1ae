"""Representations made by hand: what an encoder has to beat, and what it must not be mistaken for."""

from __future__ import annotations

import torch
import torchaudio.functional as AF
from torch import Tensor, nn

from lightning_mi.examples.public_encoders.encoders.mel import MelSpectrum

_CEPSTRA = 13


class HandMade(nn.Module):
    """All of them in one pass; frames are 10 ms apart.

    ======================  =========================================================================
    ``log-mel``             40 bands
    ``log-mel less mean``   the same less its mean over the segment: without channel and mean voice
    ``MFCC``                13 cepstra, their slopes and the slopes of these
    ``MFCC less mean``      the same less its mean over the segment
    ``long-term spectrum``  the mean of ``log-mel`` over the segment, at every frame: voice and channel
    ``level``               logarithm of the energy
    ``constant``            nothing
    ======================  =========================================================================
    """

    def __init__(self) -> None:
        super().__init__()
        self.mel = MelSpectrum(40, 512, 160, window=400, slaney=False)
        self.cosines = AF.create_dct(_CEPSTRA, 40, "ortho")

    def forward(self, waveforms: Tensor) -> dict[str, Tensor]:
        """``(B, T)`` waveforms -> ``(B, T', D)`` for each."""
        mel = self.mel(waveforms).add(1e-6).log()
        cepstra = (mel @ self.cosines).mT
        slopes = AF.compute_deltas(cepstra)
        mfcc = torch.cat([cepstra, slopes, AF.compute_deltas(slopes)], dim=1).mT
        mean = mel.mean(dim=1, keepdim=True)
        return {
            "log-mel": mel,
            "log-mel less mean": mel - mean,
            "MFCC": mfcc,
            "MFCC less mean": mfcc - mfcc.mean(dim=1, keepdim=True),
            "long-term spectrum": mean.expand_as(mel),
            "level": mel.exp().sum(dim=2, keepdim=True).log(),
            "constant": torch.ones_like(mel[:, :, :1]),
        }
