"""Speech that people recorded: telephone prompts in five languages, cut into utterances."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from tqdm.auto import tqdm  # type: ignore[import-untyped,unused-ignore]

from ..data.asterisk import Prompt, find_prompts
from ..data.audio_files import Int16Array, from_int16, one_thread, to_int16
from ..data.pauses import utterances_in
from ..data.utterances import Recording, Utterance
from .channel import Channel
from .halves import by_second_voice
from .speech import PARTS, Corpora, check_part, check_parts
from .truth import LANGUAGE, PHONE, VOICE

_SAMPLE_RATE = 16000
_NEEDS_SECONDS = 1.7  # what the scores' sections need: an utterance is not cut to less


def by_prompt(utterances: Sequence[Utterance]) -> Any:
    """Half of the prompts, each with all that was cut out of it, in all languages: a :data:`~.halves.Halving`."""
    prompts = ["/".join(utterance.id.split("/")[2:-1]) for utterance in utterances]
    return np.array([int(_draw(f"half/{prompt}") < 0.5) for prompt in prompts], dtype=np.int64)


@dataclass(frozen=True)
class RecordedCorpora(Corpora):
    """No prompt is in two of the three parts, whoever speaks it in whatever language; nor are two prompts that
    have the same words in some language, or the same file. **The speakers are the same in all three**, for there are seven of them,
    and prompts have phrases in common ("followed by the pound key").

    Probes for phones and voices are tested on other prompts of the same speakers. That for languages is tested on
    another speaker than it is fitted to, in the languages that have two.

    Args:
        shares: Expected shares of the prompts in "train", "score" and "truth".
        utterances: For each the most utterances; ``None`` for all that there are.
        channels: For each, how utterances sound; none: as they were recorded.
        roots: Folders that the packages are unpacked in (:mod:`lightning_mi.examples.data.asterisk`).
        shortest: Utterances with less speech, in seconds, are left out.
        longest: Prompts are cut at their pauses into utterances no longer than this, in seconds.
        seed: Of the split.

    Raises:
        ValueError: If a part is missing, or the shares are not of 1.
    """

    shares: Mapping[str, float]
    utterances: Mapping[str, int | None]
    channels: Mapping[str, Channel | None] = field(default_factory=dict)
    roots: Sequence[str] = (".cache/asterisk", "/")
    shortest: float = 1.0
    longest: float = 5.0
    seed: int = 0

    halves = MappingProxyType({PHONE: by_prompt, VOICE: by_prompt, LANGUAGE: by_second_voice})

    def __post_init__(self) -> None:
        check_parts("shares", self.shares)
        check_parts("utterances", self.utterances)
        if min(self.shares.values()) < 0 or abs(sum(self.shares.values()) - 1) > 1e-6:
            raise ValueError(f"shares: got {dict(self.shares)}, expected shares of 1")

    def load(self, part: str) -> list[Recording]:
        """Recordings of one part as they were recorded, without the silence at their ends, held in memory.

        Raises:
            FileNotFoundError: If packages are missing; the message names them.
        """
        check_part(part)
        found = find_prompts(self.roots)
        alike = {prompt.name: set(found.wordings.get(prompt.name, ())) for prompt in found.prompts}
        for prompt in found.prompts:
            alike[prompt.name].add(hashlib.sha256(prompt.path.read_bytes()).hexdigest())
        families = families_of(alike)
        wanted = [prompt for prompt in found.prompts if self.part_of(families[prompt.name]) == part]
        recordings: list[Recording] = []
        with one_thread():
            for prompt in tqdm(wanted, desc="prompts", unit="prompt", leave=False, disable=None):
                recordings += self._cut(prompt)
        # In an order that has nothing to do with speakers, so that the first are like all.
        recordings.sort(key=lambda each: _draw(f"order/{each.utterance.id}"))
        return recordings[: self.utterances[part]]

    def part_of(self, family: str) -> str:
        """The part that a family of prompts is in."""
        draw = _draw(f"{self.seed}/{family}")
        for part in PARTS:
            draw -= self.shares[part]
            if draw < 0:
                return part
        return PARTS[-1]

    def _cut(self, prompt: Prompt) -> Iterator[Recording]:
        waveform = prompt.read(_SAMPLE_RATE)
        for start, end in utterances_in(waveform, _SAMPLE_RATE, self.shortest, self.longest, _NEEDS_SECONDS):
            name = f"{prompt.language}/{prompt.voice}/{prompt.name}/{start:.2f}"
            samples = to_int16(waveform[round(start * _SAMPLE_RATE) : round(end * _SAMPLE_RATE)])
            yield Recording(Utterance(name, prompt.language, prompt.voice), partial(_read, samples))


def families_of(wordings: Mapping[str, set[str]]) -> dict[str, str]:
    """For each prompt the first of those that it is connected with: two that have the same words in some language
    are, whatever their case and punctuation, and so are two that are both connected with a third.

    Example:
        >>> families_of({"bye": {"Goodbye!", "Adieu"}, "end": {"goodbye"}, "last": {"adieu."}, "new": {"Hi"}})
        {'bye': 'bye', 'end': 'bye', 'last': 'bye', 'new': 'new'}
    """
    names = sorted(wordings)
    words = {name: {" ".join(_words(text)) for text in wordings[name]} for name in names}
    every = sorted(set().union(*words.values()) - {""})
    edges = [(i, len(names) + every.index(text)) for i, name in enumerate(names) for text in words[name] if text]
    rows, columns = zip(*edges, strict=True) if edges else ((), ())
    size = len(names) + len(every)
    _, member = connected_components(coo_array(([True] * len(edges), (rows, columns)), shape=(size, size)))
    first: dict[int, str] = {}
    return {name: first.setdefault(int(member[i]), name) for i, name in enumerate(names)}


def _words(text: str) -> list[str]:
    return "".join(letter if letter.isalnum() else " " for letter in text.lower()).split()


def _draw(key: str) -> float:
    """A number in [0, 1) that only the key settles."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64


def _read(samples: Int16Array) -> Tensor:
    return from_int16(samples)
