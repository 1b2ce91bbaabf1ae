"""Recorded speech: telephone prompts in five languages, cut into utterances."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from tqdm.auto import tqdm  # type: ignore[import-untyped,unused-ignore]

from lightning_mi.examples.data.asterisk import Prompt, find_prompts
from lightning_mi.examples.data.audio_files import Int16Array, one_thread, to_int16
from lightning_mi.examples.data.corpus_cache import cache_folder, is_cached, read_cache, write_cache
from lightning_mi.examples.data.pauses import pauses, utterances_in
from lightning_mi.examples.data.transcribed import Transcribed, find_phones
from lightning_mi.examples.data.utterances import Phone, Recording, Utterance
from lightning_mi.examples.model_selection.corpora.base import (
    DOWNSTREAM,
    LANGUAGE,
    PARTS,
    PHONE,
    SCORE,
    SPEAKER,
    Corpora,
    check_part,
    check_parts,
)
from lightning_mi.examples.model_selection.corpora.channel import Channel
from lightning_mi.examples.model_selection.corpora.splits import by_second_speaker

_SAMPLE_RATE = 16000
_LABELLED = (SCORE, DOWNSTREAM)  # parts whose phones are needed
_NEEDS_SECONDS = 1.7  # what the scores' segments need: an utterance is not cut to less


def by_prompt(utterances: Sequence[Utterance]) -> Any:
    """Half of the prompts in each fold, each prompt with all of its utterances in all languages."""
    prompts = ["/".join(utterance.id.split("/")[2:-1]) for utterance in utterances]
    return np.array([int(_draw(f"half/{prompt}") < 0.5) for prompt in prompts], dtype=np.int64)


@dataclass(frozen=True)
class RecordedCorpora(Corpora):
    """No prompt is in two of the three parts, in any language.

    Nor are prompts with the same words or the same file. **The speakers are the same in all three parts**, because
    there are only seven of them, and prompts have phrases in common ("followed by the pound key").

    Phones are those of forced alignment (:mod:`lightning_mi.examples.data.transcribed`), if a transcript exists;
    "train" has none. Probes for phones and speakers are tested on other prompts of the same speakers. The probe
    for languages is tested on another speaker than it is fitted to, in the languages that have two.

    Args:
        shares: Expected shares of the prompts in each of the parts.
        utterances: For each the most utterances; ``None``: all that there are.
        channel: Channel that every utterance passes through; ``None``: utterances are left as recorded.
        packages: Folders that the packages are unpacked in (:mod:`lightning_mi.examples.data.asterisk`).
        root: Folder of the cache of prepared speech.
        shortest: Utterances with less speech, in seconds, are left out.
        longest: Prompts are cut at their pauses into utterances no longer than this, in seconds.
        seed: Seed of the assignment of prompts to parts.

    Raises:
        ValueError: If a part is missing, or the shares do not sum to 1.
    """

    shares: Mapping[str, float]
    utterances: Mapping[str, int | None]
    channel: Channel | None = None
    packages: Sequence[str] = (".cache/asterisk", "/")
    root: str = ".cache/recorded"
    shortest: float = 1.0
    longest: float = 5.0
    seed: int = 0

    splits = MappingProxyType({PHONE: by_prompt, SPEAKER: by_prompt, LANGUAGE: by_second_speaker})

    def __post_init__(self) -> None:
        check_parts("shares", self.shares)
        check_parts("utterances", self.utterances)
        if min(self.shares.values()) < 0 or abs(sum(self.shares.values()) - 1) > 1e-6:
            raise ValueError(f"shares: got {dict(self.shares)}, expected shares that sum to 1")

    def load(self, part: str) -> list[Recording]:
        """Recordings of one part without the silence at their ends, prepared if they are not on disk.

        Raises:
            FileNotFoundError: If packages are missing; the message names them.
        """
        check_part(part)
        found = find_prompts(self.packages)
        files = {prompt: hashlib.sha256(prompt.path.read_bytes()).hexdigest() for prompt in found.prompts}
        alike: dict[str, set[str]] = {}
        for prompt, file in files.items():
            alike.setdefault(prompt.name, {*found.wordings.get(prompt.name, ())}).add(file)
        families = families_of(alike)
        wanted = {prompt: file for prompt, file in files.items() if self.part_of(families[prompt.name]) == part}
        settings = {
            "prompts": [[prompt.id, prompt.text, file] for prompt, file in wanted.items()],
            "seconds": [self.shortest, self.longest],
            "phones": part in _LABELLED,
        }
        folder = cache_folder(Path(self.root).expanduser(), settings)
        if not is_cached(folder):
            with one_thread():
                write_cache(
                    folder, self._prepare(list(wanted), part in _LABELLED), {"part": part, "seed": self.seed}
                )
        # In an order that has nothing to do with speakers, so that the first are like all.
        recordings = sorted(read_cache(folder), key=lambda each: _draw(f"order/{each.utterance.id}"))
        return recordings[: self.utterances[part]]

    def part_of(self, family: str) -> str:
        """The part of a family of prompts."""
        draw = _draw(f"{self.seed}/{family}")
        for part in PARTS:
            draw -= self.shares[part]
            if draw < 0:
                return part
        return PARTS[-1]

    def _prepare(self, prompts: Sequence[Prompt], labelled: bool) -> Iterator[tuple[Utterance, Int16Array]]:
        waveforms = [prompt.read(_SAMPLE_RATE) for prompt in tqdm(prompts, "prompts", leave=False, disable=None)]
        phones = _phones(prompts, waveforms) if labelled else {}
        for prompt, waveform in zip(prompts, waveforms, strict=True):
            for start, end in utterances_in(waveform, _SAMPLE_RATE, self.shortest, self.longest, _NEEDS_SECONDS):
                cut = waveform[round(start * _SAMPLE_RATE) : round(end * _SAMPLE_RATE)]
                inside = (
                    (symbol, max(first - start, 0.0), min(last, end) - start)
                    for symbol, first, last in phones.get(prompt, ())
                    if first < end and last > start
                )
                name = f"{prompt.id}/{start:.2f}"
                yield Utterance(name, prompt.language, prompt.voice, phones=tuple(inside)), to_int16(cut)


def _phones(prompts: Sequence[Prompt], waveforms: Sequence[Tensor]) -> dict[Prompt, tuple[Phone, ...]]:
    known = {
        prompt: Transcribed(waveform, prompt.text, prompt.language, prompt.voice)
        for prompt, waveform in zip(prompts, waveforms, strict=True)
        if prompt.text and not pauses(waveform, _SAMPLE_RATE).all()
    }
    return dict(zip(known, find_phones(list(known.values())), strict=True))


def families_of(wordings: Mapping[str, set[str]]) -> dict[str, str]:
    """Connected components of prompts: for each prompt the first name in its component.

    Two prompts are connected if they have the same words in some language, whatever their case and punctuation.

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
    """A number in [0, 1) that depends on the key alone."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
