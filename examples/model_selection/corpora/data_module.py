"""LightningDataModule of the zoo: random crops to train on, whole utterances to validate on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from lightning_mi.examples.data.speech import SpeechDataModule
from lightning_mi.examples.data.utterances import Recording


class ZooData(SpeechDataModule):
    """Random crops of one corpus to train on, and whole utterances of another to validate on.

    Args:
        train: Recordings to train on.
        validation: Recordings to validate on.
        batch_size: Utterances per batch.
        crop_seconds: Length of the training crops.
        noise: Train on white noise of each recording's level instead of speech: such a model learns nothing about
            speech.
    """

    def __init__(
        self,
        train: Sequence[Recording],
        validation: Sequence[Recording],
        batch_size: int,
        crop_seconds: float,
        noise: bool = False,
    ) -> None:
        super().__init__(batch_size=batch_size, crop_seconds=crop_seconds)
        self._parts = ([white_noise_like(each) for each in train] if noise else list(train), list(validation))

    def load_split(self) -> tuple[Sequence[Recording], Sequence[Recording]]:
        """The recordings to train on and to validate on."""
        return self._parts


def white_noise_like(recording: Recording) -> Recording:
    """White noise with the length and level of a recording, drawn anew at every reading."""
    return Recording(recording.utterance, partial(_read_noise, recording))


def _read_noise(recording: Recording) -> Tensor:
    waveform = recording.read()
    return torch.randn_like(waveform) * waveform.std()
