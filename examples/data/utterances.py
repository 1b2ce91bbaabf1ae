"""What a data module is made of: utterances, their recordings, a data set of them and its batches."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypedDict

import torch
from torch import Tensor
from torch.utils.data import Dataset
from typing_extensions import NotRequired

from lightning_mi.inputs.labels import number_of_text

_STAND_INS = 10  # in a row, behind which a missing file is an error

Phone = tuple[str, float, float]
"""One phone: its symbol, and its start and end in seconds from the start of the utterance."""


@dataclass(frozen=True)
class Utterance:
    """What is known about one utterance; a field is empty if the source does not have it.

    Attributes:
        id: A name that stays the same wherever the corpus lies and however large it is.
        language: The language, as the source names it.
        voice: The speaker.
        text: The words spoken.
        phones: The phones in order of time, without the pauses between them.
    """

    id: str
    language: str = ""
    voice: str = ""
    text: str = ""
    phones: tuple[Phone, ...] = ()


@dataclass(frozen=True)
class Recording:
    """An utterance and the way to its sound.

    Attributes:
        utterance: The record.
        read: Returns the whole waveform, ``(T,)`` float32 in [-1, 1], at the data module's sample rate.
            Worker processes receive a pickled copy.
    """

    utterance: Utterance
    read: Callable[[], Tensor]


class Example(TypedDict):
    """One item of a :class:`SpeechDataset`."""

    waveform: Tensor
    index: int
    speaker: NotRequired[int]


class Batch(TypedDict):
    """Examples put together: ``(B, T)`` float32 waveforms, ``(B,)`` int64 lengths, indices and speakers."""

    waveforms: Tensor
    lengths: Tensor
    index: Tensor
    speaker: NotRequired[Tensor]


class SpeechDataset(Dataset[Example]):
    """Recordings as a map-style data set.

    Item ``i`` is ``{"waveform": (T,) float32 in [-1, 1], "index": i}``, where ``i`` is the position in
    ``utterances`` too. If it can no longer be read, the next one stands in for it, with its own index.

    Args:
        recordings: The recordings, in the order of the indices.
        crop_samples: Cut a random window of that many samples from longer utterances. The place comes
            from torch's generator, so ``seed_everything`` settles it. ``None`` gives whole utterances.
        with_speakers: Whether items have a ``speaker``, a number made of the utterance's ``voice``.

    Raises:
        ValueError: ``crop_samples`` is below 1.
    """

    def __init__(
        self, recordings: Sequence[Recording], crop_samples: int | None = None, with_speakers: bool = False
    ) -> None:
        if crop_samples is not None and crop_samples < 1:
            raise ValueError(f"crop_samples={crop_samples}: expected at least 1 sample, or None for no crops")
        self.recordings = tuple(recordings)
        self.utterances = tuple(recording.utterance for recording in recordings)
        self.crop_samples = crop_samples
        self.with_speakers = with_speakers
        self._has_warned = False

    def __len__(self) -> int:
        return len(self.recordings)

    def __getitem__(self, index: int) -> Example:
        index, waveform = self._read(index)
        if self.crop_samples is not None and len(waveform) > self.crop_samples:
            start = int(torch.randint(len(waveform) - self.crop_samples + 1, ()))
            waveform = waveform[start : start + self.crop_samples]
        example: Example = {"waveform": waveform, "index": index}
        if self.with_speakers:
            example["speaker"] = number_of_text(self.utterances[index].voice)
        return example

    def _read(self, index: int) -> tuple[int, Tensor]:
        """The waveform at ``index``, or one of the next that can be read: files vanish while a run reads them."""
        recordings = len(self.recordings)
        if not -recordings <= index < recordings:
            raise IndexError(f"index {index} of {recordings} utterances")
        others = [(index + further) % recordings for further in range(min(recordings, 1 + _STAND_INS))]
        for at in others:
            try:
                return at, self.recordings[at].read()
            except (OSError, RuntimeError, ValueError) as error:
                if at == others[-1]:  # it is no matter of single files
                    raise
                self._warn_of_a_stand_in(self.utterances[at].id, error)
        raise AssertionError

    def _warn_of_a_stand_in(self, name: str, error: Exception) -> None:
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"{name} can no longer be read, and the next utterance stands in for it, as for all that follow: "
                f"{error}",
                stacklevel=2,
            )


def collate(examples: Sequence[Example]) -> Batch:
    """Put examples into one batch, shorter waveforms padded with zeros at the end.

    Returns:
        ``{"waveforms": (B, T) float32, "lengths": (B,) int64, "index": (B,) int64}``, where ``T`` is the
        longest waveform and ``lengths`` counts each one's own samples; and ``"speaker": (B,) int64`` if all
        examples have one.
    """
    waveforms = [example["waveform"] for example in examples]
    batch: Batch = {
        "waveforms": torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True),
        "lengths": torch.tensor([len(waveform) for waveform in waveforms]),
        "index": torch.tensor([example["index"] for example in examples]),
    }
    if all("speaker" in example for example in examples):
        batch["speaker"] = torch.tensor([example["speaker"] for example in examples])
    return batch


def split(
    recordings: Iterable[Recording], val_fraction: float, seed: int = 0
) -> tuple[list[Recording], list[Recording]]:
    """Divide recordings into a training and a validation part by a hash of each utterance's id.

    An utterance keeps its side whatever else the corpus holds, so a corpus may grow between runs.

    Args:
        recordings: The recordings; both parts keep their order.
        val_fraction: Expected part of the utterances that goes to validation.
        seed: Another seed draws another division.

    Returns:
        The training recordings and the validation recordings.
    """
    train: list[Recording] = []
    val: list[Recording] = []
    for recording in recordings:
        digest = hashlib.sha256(f"{seed}/{recording.utterance.id}".encode()).digest()
        held_out = int.from_bytes(digest[:8], "big") < val_fraction * 2**64
        (val if held_out else train).append(recording)
    return train, val
