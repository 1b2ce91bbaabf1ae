"""The zoo's speech, wherever it comes from: three corpora with nothing in common, each through its channels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from tqdm.auto import tqdm  # type: ignore[import-untyped,unused-ignore]

from ..data.audio_files import Int16Array, from_int16, to_int16
from ..data.speech import SpeechDataModule
from ..data.utterances import Recording
from .channel import Channel
from .halves import Halving

TRAIN, SCORE, TRUTH = "train", "score", "truth"
PARTS = (TRAIN, SCORE, TRUTH)


class Corpora(ABC):
    """What is spoken by whom: one corpus to train on, one for the scores without labels, one for the probes.

    What may not be in two of them is for the source to say; nothing that the truth is measured on has been seen by
    a model or by a score.

    Attributes:
        channels: For each part, how utterances sound; none: as they are.
        halves: For each of ``truth.TRUTHS`` how its probe's two halves are drawn.
    """

    channels: Mapping[str, Channel | None]
    halves: ClassVar[Mapping[str, Halving]]

    @abstractmethod
    def load(self, part: str) -> list[Recording]:
        """Recordings of one of :data:`PARTS` as they are.

        Raises:
            ValueError: If there is no such part.
        """

    def recordings(self, part: str, channel: Channel | None = None) -> list[Recording]:
        """As :meth:`load`, each as it comes through its own channel; ``channel`` takes the place of the part's."""
        channel = channel or self.channels.get(part)
        recordings = self.load(part)
        return recordings if channel is None else through(channel, recordings)


def check_part(part: str) -> None:
    """Refuse a name that is not one of :data:`PARTS`."""
    if part not in PARTS:
        raise ValueError(f"part={part!r}: expected one of {', '.join(PARTS)}")


def check_parts(name: str, given: Mapping[str, object]) -> None:
    """Refuse the argument ``name`` unless it says something for each of :data:`PARTS`."""
    if set(given) != set(PARTS):
        raise ValueError(f"{name}: got {sorted(given)}, expected {', '.join(PARTS)}")


def through(channel: Channel, recordings: Sequence[Recording]) -> list[Recording]:
    """The recordings as they come through ``channel``, each through its own, held in memory as int16."""
    changed = []
    for recording in tqdm(recordings, desc="channel", unit="utterance", leave=False, disable=None):
        waveform = channel.apply(recording.read(), recording.utterance.id)
        changed.append(Recording(recording.utterance, partial(_read, to_int16(waveform))))
    return changed


def _read(samples: Int16Array) -> Tensor:
    return from_int16(samples)


class ZooData(SpeechDataModule):
    """Random crops of one corpus to train on, and whole utterances of another to validate on.

    Args:
        train: Recordings to train on.
        score: Recordings to validate on.
        batch_size: Utterances per batch.
        crop_seconds: Length of the training crops.
        noise: Train on white noise with the level of each crop, in the place of speech: a model that cannot have
            learnt anything of speech.
    """

    def __init__(
        self,
        train: Sequence[Recording],
        score: Sequence[Recording],
        batch_size: int,
        crop_seconds: float,
        noise: bool = False,
    ) -> None:
        super().__init__(batch_size=batch_size, crop_seconds=crop_seconds)
        self._parts = ([_noise(each) for each in train] if noise else list(train), list(score))

    def load_split(self) -> tuple[Sequence[Recording], Sequence[Recording]]:
        """The two parts."""
        return self._parts


def _noise(recording: Recording) -> Recording:
    return Recording(recording.utterance, partial(_read_noise, recording))


def _read_noise(recording: Recording) -> Tensor:
    waveform = recording.read()
    return torch.randn_like(waveform) * waveform.std()
