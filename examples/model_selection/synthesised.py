"""Speech that eSpeak NG speaks: voices, sentences and phones without end, and all of them known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from ..data.espeak import EspeakDataModule
from ..data.sentences import LANGUAGES
from ..data.utterances import Recording
from .channel import Channel
from .halves import by_voice, within_voice
from .speech import PARTS, Corpora, check_part, check_parts
from .truth import LANGUAGE, PHONE, VOICE


@dataclass(frozen=True)
class SynthesisedCorpora(Corpora):
    """No voice and no sentence is in two of the three parts; a part's seed is its number.

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

    halves = MappingProxyType({PHONE: by_voice, VOICE: within_voice, LANGUAGE: by_voice})

    def __post_init__(self) -> None:
        check_parts("voices", self.voices)
        check_parts("utterances", self.utterances)
        spoken = [voice for part in PARTS for voice in self.voices[part]]
        if twice := sorted({voice for voice in spoken if spoken.count(voice) > 1}):
            raise ValueError(f"voices: {', '.join(twice)} given twice; each belongs to one part only")

    def load(self, part: str) -> list[Recording]:
        """Recordings of one part as they are spoken, synthesised where they are not on disk; without those whose
        sentence is in an earlier part."""
        check_part(part)
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
                break
            seen |= {each.utterance.text for each in recordings}
        return recordings
