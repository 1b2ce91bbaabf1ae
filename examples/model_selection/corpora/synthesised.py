"""eSpeak NG speech: any number of sentences by many speakers, all phones known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from lightning_mi.examples.data.espeak import EspeakDataModule
from lightning_mi.examples.data.sentences import LANGUAGES
from lightning_mi.examples.data.utterances import Recording
from lightning_mi.examples.model_selection.corpora.base import (
    LANGUAGE,
    PARTS,
    PHONE,
    SPEAKER,
    Corpora,
    check_part,
    check_parts,
)
from lightning_mi.examples.model_selection.corpora.channel import Channel
from lightning_mi.examples.model_selection.corpora.splits import by_speaker, within_speaker


@dataclass(frozen=True)
class SynthesisedCorpora(Corpora):
    """No speaker and no sentence is in two of the three parts.

    Args:
        speakers: For each of the parts names of eSpeak NG voice variants.
        utterances: For each, how many.
        channel: Channel that every utterance passes through; ``None``: utterances are left as eSpeak NG speaks.
        languages: Languages out of ``sentences.LANGUAGES``.
        root: Folder of the cache of synthesised speech.
        seed: Seed of the sentences.

    Raises:
        ValueError: If a part is missing, or a speaker is in two of them.
    """

    speakers: Mapping[str, Sequence[str]]
    utterances: Mapping[str, int]
    channel: Channel | None = None
    languages: Sequence[str] = LANGUAGES
    root: str = ".cache/espeak"
    seed: int = 0

    splits = MappingProxyType({PHONE: by_speaker, SPEAKER: within_speaker, LANGUAGE: by_speaker})

    def __post_init__(self) -> None:
        check_parts("speakers", self.speakers)
        check_parts("utterances", self.utterances)
        every = [speaker for part in PARTS for speaker in self.speakers[part]]
        if twice := sorted({speaker for speaker in every if every.count(speaker) > 1}):
            raise ValueError(f"speakers: {', '.join(twice)} given twice; each belongs to one part only")

    def load(self, part: str) -> list[Recording]:
        """Recordings of one part, synthesised if they are not on disk, without sentences of an earlier part."""
        check_part(part)
        seen: set[str] = set()
        for number, name in enumerate(PARTS):
            source = EspeakDataModule(
                self.utterances[name],
                tuple(self.languages),
                tuple(self.speakers[name]),
                self.root,
                val_fraction=0.0,
                seed=len(PARTS) * self.seed + number,
            )
            source.prepare_data()
            recordings = [each for each in source.load_recordings() if each.utterance.text not in seen]
            if name == part:
                break
            seen |= {each.utterance.text for each in recordings}
        return recordings
