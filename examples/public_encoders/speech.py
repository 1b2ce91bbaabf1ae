"""Recorded speech of Debian packages: 20 speakers, telephone prompts, words for children and a game's dialogues.

The clips are short. Those of one speaker are joined to utterances of 5 to 7 s, so that views of one moment and of
one far from it have room. ``make encoders`` gets the packages of ``packages.txt`` (420 MB) without root::

    mkdir -p .cache/speech && cd .cache/speech
    apt-get download $(grep -v '^#' ../../examples/public_encoders/packages.txt)
    for package in *.deb; do dpkg -x $package .; done
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from lightning_mi.examples.data.asterisk import PROMPT_SETS, find_prompts
from lightning_mi.examples.data.audio_files import read_audio
from lightning_mi.examples.data.pauses import utterances_in
from lightning_mi.examples.public_encoders.registry import JUDGE, SEARCH

SAMPLE_RATE = 16000
File = tuple[str, Callable[[], Tensor], str]
"""Name, reader and words of a clip."""

SCORE, PROBE = "score", "probe"
_SHORTEST, _LONGEST = 0.35, 7.0  # seconds of a clip
_UTTERANCE_SECONDS = 5.0
_STAMPS = Path("usr/share/tuxpaint/stamps")
_GAME = Path("usr/share/games/fillets-ng")


@dataclass(frozen=True)
class Clip:
    """One recording, without the silence at its ends.

    Attributes:
        name: The same for all speakers who say the same thing.
        waveform: ``(T,)`` float32 at 16 kHz.
        text: Its words, or nothing if they are not known.
    """

    name: str
    waveform: Tensor
    text: str


@dataclass(frozen=True)
class Speaker:
    """One speaker in one language.

    Attributes:
        name: Of the speaker; one of them speaks two languages.
        language: eSpeak NG's tag.
        half: The half of the study that scores this speaker's utterances.
        files: Folder -> name, reader and words of each clip.
    """

    name: str
    language: str
    half: str
    files: Callable[[Path], Iterable[File]]

    @property
    def id(self) -> str:
        """Language and name."""
        return f"{self.language}/{self.name}"

    def clips(self, root: Path, part: str, seconds: float) -> list[Clip]:
        """About ``seconds`` of clips of one part, in an order that a hash of their names gives."""
        files = sorted(
            (each for each in self.files(root) if part_of(each[0]) == part),
            key=lambda each: _draw(f"order/{self.id}/{each[0]}"),
        )
        found, total = [], 0.0
        for name, read, text in files:
            if total >= seconds:
                break
            waveform = read()
            spans = utterances_in(waveform, SAMPLE_RATE, 0.0, 4 * _LONGEST, 1.0)
            if not spans:
                continue
            cut = waveform[round(spans[0][0] * SAMPLE_RATE) : round(spans[-1][1] * SAMPLE_RATE)]
            if _SHORTEST <= len(cut) / SAMPLE_RATE <= _LONGEST:
                found.append(Clip(name, cut, text))
                total += len(cut) / SAMPLE_RATE
        return found


def joined(clips: Sequence[Clip]) -> list[list[int]]:
    """Numbers of the clips in each utterance: as many as it takes to reach 5 s."""
    found: list[list[int]] = [[]]
    seconds = 0.0
    for number, clip in enumerate(clips):
        found[-1].append(number)
        seconds += len(clip.waveform) / SAMPLE_RATE
        if seconds >= _UTTERANCE_SECONDS:
            found.append([])
            seconds = 0.0
    return found[:-1]


def part_of(name: str) -> str:
    """``SCORE`` or ``PROBE``: what is said in one is not said in the other, by nobody."""
    return SCORE if _draw(f"part/{name.lower()}") < 0.5 else PROBE


def _draw(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def _prompts(language: str, voice: str) -> Callable[[Path], Iterable[File]]:
    def files(root: Path) -> Iterable[File]:
        sets = [each for each in PROMPT_SETS if (each.language, each.voice) == (language, voice)]
        for prompt in find_prompts([root], sets).prompts:
            yield prompt.name, partial(prompt.read, SAMPLE_RATE), prompt.text

    return files


def _stamps(tag: str) -> Callable[[Path], Iterable[File]]:
    def files(root: Path) -> Iterable[File]:
        for path in sorted((root / _STAMPS).rglob(f"*_desc_{tag}.ogg")):
            stem = path.name.removesuffix(f"_desc_{tag}.ogg")
            words = path.with_name(f"{stem}.txt")
            lines = words.read_text(encoding="utf-8", errors="replace").splitlines() if words.is_file() else []
            text = next((line.split("=", 1)[1] for line in lines if line.startswith(f"{tag}.utf8=")), "")
            # Pictures of one thing share its words, whatever their files are called.
            name = f"stamp/{lines[0].strip()}" if lines else f"stamp/{stem}"
            yield name, partial(read_audio, path, SAMPLE_RATE), text.strip()

    return files


def _game(tag: str, who: str) -> Callable[[Path], Iterable[File]]:
    def files(root: Path) -> Iterable[File]:
        texts: dict[str, str] = {}
        for script in sorted((root / _GAME / "script").rglob(f"dialogs_{tag}.lua")):
            pairs = re.findall(
                r'dialogId\("([^"]+)"[^)]*\)\s*dialogStr\("([^"]*)"\)', script.read_text(encoding="utf-8")
            )
            texts.update(pairs)
        for path in sorted((root / _GAME / "sound").rglob(f"{tag}/*-{who}-*.ogg")):
            if path.stem.split("-")[1] == who:
                yield f"fish/{path.stem}", partial(read_audio, path, SAMPLE_RATE), texts.get(path.stem, "")

    return files


def _asterisk(name: str, language: str, half: str) -> Speaker:
    return Speaker(name, language, half, _prompts(language, name))


SPEAKERS = (
    _asterisk("Allison", "en-us", SEARCH),
    _asterisk("Allison", "es", SEARCH),
    _asterisk("June", "fr-fr", SEARCH),
    Speaker("stamps", "ro", SEARCH, _stamps("ro")),
    Speaker("stamps", "bg", SEARCH, _stamps("bg")),
    Speaker("stamps", "el", SEARCH, _stamps("el")),
    Speaker("stamps", "es", SEARCH, _stamps("es")),
    Speaker("stamps", "ru", SEARCH, _stamps("ru")),
    Speaker("small fish", "cs", SEARCH, _game("cs", "m")),
    Speaker("big fish", "nl", SEARCH, _game("nl", "v")),
    _asterisk("Carlo", "it", JUDGE),
    _asterisk("Paola", "it", JUDGE),
    _asterisk("IvrvoiceRU", "ru", JUDGE),
    _asterisk("July", "es", JUDGE),
    _asterisk("Armelle", "fr-fr", JUDGE),
    Speaker("stamps", "fr-fr", JUDGE, _stamps("fr")),
    Speaker("stamps", "ca", JUDGE, _stamps("ca")),
    Speaker("stamps", "be", JUDGE, _stamps("be")),
    Speaker("stamps", "da", JUDGE, _stamps("da")),
    Speaker("big fish", "cs", JUDGE, _game("cs", "v")),
    Speaker("small fish", "nl", JUDGE, _game("nl", "m")),
)
"""20 speakers, ten in each half; one of the search half speaks two languages."""


def utterances(root: Path, half: str, count: int) -> list[tuple[Speaker, Tensor]]:
    """Up to ``count`` utterances, ``(T,)`` float32 each, of every speaker of one half, for the scores."""
    found = []
    for speaker in SPEAKERS:
        if speaker.half == half:
            clips = speaker.clips(root, SCORE, count * (_UTTERANCE_SECONDS + 2))
            for numbers in joined(clips)[:count]:
                found.append((speaker, torch.cat([clips[number].waveform for number in numbers])))
    return found
