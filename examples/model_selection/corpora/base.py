"""Three corpora without overlap: one to train on, one for the scores without labels, one for the probes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import ClassVar

from torch import Tensor
from tqdm.auto import tqdm  # type: ignore[import-untyped,unused-ignore]

from lightning_mi.examples.data.audio_files import Int16Array, from_int16, to_int16
from lightning_mi.examples.data.utterances import Recording
from lightning_mi.examples.model_selection.corpora.channel import Channel
from lightning_mi.examples.model_selection.corpora.splits import Split

TRAIN, SCORE, DOWNSTREAM = "train", "score", "downstream"
PARTS = (TRAIN, SCORE, DOWNSTREAM)
PHONE, SPEAKER, LANGUAGE = "phone", "speaker", "language"
TASKS = (PHONE, SPEAKER, LANGUAGE)
"""What the probes recognise."""


class Corpora(ABC):
    """Speech in the three :data:`PARTS`. No model and no score sees what the probes are tested on.

    Each subclass says what its parts do not share.

    Attributes:
        channel: Channel that every utterance passes through; ``None``: utterances are left as they are.
        splits: For each of :data:`TASKS` how the two folds of its probe are drawn.
    """

    channel: Channel | None
    splits: ClassVar[Mapping[str, Split]]

    @abstractmethod
    def load(self, part: str) -> list[Recording]:
        """Recordings of one of :data:`PARTS`, without a channel.

        Raises:
            ValueError: If there is no such part.
        """

    def recordings(self, part: str) -> list[Recording]:
        """Recordings of one of :data:`PARTS`, each through its own draw of the channel."""
        recordings = self.load(part)
        return recordings if self.channel is None else apply_channel(self.channel, recordings)


def check_part(part: str) -> None:
    """Refuse a name that is not one of :data:`PARTS`."""
    if part not in PARTS:
        raise ValueError(f"part={part!r}: expected one of {', '.join(PARTS)}")


def check_parts(name: str, given: Mapping[str, object]) -> None:
    """Refuse the argument ``name`` unless it has a value for each of :data:`PARTS`."""
    if set(given) != set(PARTS):
        raise ValueError(f"{name}: got {sorted(given)}, expected {', '.join(PARTS)}")


def apply_channel(channel: Channel, recordings: Sequence[Recording]) -> list[Recording]:
    """Pass every recording through its own draw of ``channel``; the results are held in memory as int16."""
    changed = []
    for recording in tqdm(recordings, desc="channel", unit="utterance", leave=False, disable=None):
        waveform = channel.apply(recording.read(), recording.utterance.id)
        changed.append(Recording(recording.utterance, partial(_read, to_int16(waveform))))
    return changed


def _read(samples: Int16Array) -> Tensor:
    return from_int16(samples)
