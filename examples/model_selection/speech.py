"""The zoo's speech: three corpora of synthesised speech that share neither voices nor sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor
from tqdm.auto import tqdm  # type: ignore[import-untyped,unused-ignore]

from ..data.audio_files import Int16Array, from_int16, to_int16
from ..data.espeak import EspeakDataModule
from ..data.sentences import LANGUAGES
from ..data.speech import SpeechDataModule
from ..data.utterances import Recording
from .channel import Channel

TRAIN, SCORE, TRUTH = "train", "score", "truth"
PARTS = (TRAIN, SCORE, TRUTH)  # seeds are their numbers


@dataclass(frozen=True)
class Corpora:
    """What is spoken by whom: one corpus to train on, one for the scores without labels, one for the probes.

    No voice and no sentence is in two of them, so nothing that the truth is measured on has been seen by a model
    or by a score.

    Args:
        voices: For each of "train", "score" and "truth" variants of eSpeak NG.
        utterances: For each, how many.
        channels: For each, how utterances sound; none: as eSpeak NG speaks.
        languages: Languages out of ``sentences.LANGUAGES``.
        root: Folder of the cache of synthesised speech.
        seed: Of the sentences.

    Raises:
        ValueError: If a part is missing, or a voice is in two of them.
    """

    voices: Mapping[str, Sequence[str]]
    utterances: Mapping[str, int]
    channels: Mapping[str, Channel | None] = field(default_factory=dict)
    languages: Sequence[str] = LANGUAGES
    root: str = ".cache/espeak"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, given in (("voices", self.voices), ("utterances", self.utterances)):
            if set(given) != set(PARTS):
                raise ValueError(f"{name}: got {sorted(given)}, expected {', '.join(PARTS)}")
        spoken = [voice for part in PARTS for voice in self.voices[part]]
        if twice := sorted({voice for voice in spoken if spoken.count(voice) > 1}):
            raise ValueError(f"voices: {', '.join(twice)} given twice; each belongs to one part only")

    def load(self, part: str) -> list[Recording]:
        """Recordings of one part as they are spoken, synthesised where they are not on disk; without those whose
        sentence is in an earlier part."""
        seen: set[str] = set()
        for number, name in enumerate(PARTS):
            source = EspeakDataModule(
                self.utterances[name],
                tuple(self.languages),
                tuple(self.voices[name]),
                self.root,
                val_fraction=0.0,
                seed=len(PARTS) * self.seed + number,
            )
            source.prepare_data()
            recordings = [each for each in source.load_recordings() if each.utterance.text not in seen]
            if name == part:
                return recordings
            seen |= {each.utterance.text for each in recordings}
        raise ValueError(f"part={part!r}: expected one of {', '.join(PARTS)}")

    def recordings(self, part: str, channel: Channel | None = None) -> list[Recording]:
        """As :meth:`load`, each as it comes through its own channel; ``channel`` takes the place of the part's."""
        channel = channel or self.channels.get(part)
        recordings = self.load(part)
        return recordings if channel is None else through(channel, recordings)


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
