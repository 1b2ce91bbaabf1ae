"""Recorded speech from Debian's packages of telephone prompts: eight sets in five languages, by seven speakers.

The prompts are those of the Asterisk telephone exchange: "Please enter your password followed by the pound key."
They are at 8 kHz, half of them are shorter than 1.2 s. No root is needed to get them (54 MB)::

    mkdir -p .cache/asterisk && cd .cache/asterisk
    apt-get download asterisk-core-sounds-{en,es,fr,it,ru}{,-wav} asterisk-prompt-{it-menardi-wav,es-co,fr-armelle}
    for package in *.deb; do dpkg -x $package .; done

(They are not all to be installed at once: two of them exclude each other.) The five core sets are CC-BY-SA 3.0
(Italian and Russian: CC-BY 3.0) by Allison Smith, June Wallack, Carlo Flora and ivrvoice.ru, and come with what is
said in each prompt; the others, by Paola Dal Zot (CC-BY-SA 3.0), July E. Jiménez (GPL 2) and Armelle Desjardins,
do not.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lightning_mi.examples.data.audio_files import read_audio, resample
from lightning_mi.examples.data.extras import import_extra

_SOUNDS = Path("usr/share/asterisk/sounds")
_DOCS = Path("usr/share/doc")
_GSM_RATE = 8000


@dataclass(frozen=True)
class PromptSet:
    """Prompts of one language by one speaker.

    Attributes:
        language: eSpeak NG's tag.
        voice: The speaker; Allison Smith speaks two languages.
        folder: Folder of the audio files.
        ending: Ending of the audio files' names.
        package: That holds them.
        transcript: Package with the transcripts, if there is one.
    """

    language: str
    voice: str
    folder: str
    ending: str
    package: str
    transcript: str | None = None


def _core(tag: str, language: str, voice: str, folder: str) -> PromptSet:
    package = f"asterisk-core-sounds-{tag}"
    return PromptSet(language, voice, folder, ".wav", f"{package}-wav", package)


PROMPT_SETS = (
    _core("en", "en-us", "Allison", "en_US_f_Allison"),
    _core("es", "es", "Allison", "es_MX_f_Allison"),
    _core("fr", "fr-fr", "June", "fr_CA_f_June"),
    _core("it", "it", "Carlo", "it_IT_m_Carlo"),
    _core("ru", "ru", "IvrvoiceRU", "ru_RU_f_IvrvoiceRU"),
    PromptSet("it", "Paola", "it_IT_f_Menardi", ".wav", "asterisk-prompt-it-menardi-wav"),
    PromptSet("es", "July", "es", ".gsm", "asterisk-prompt-es-co"),
    PromptSet("fr-fr", "Armelle", "fr", ".gsm", "asterisk-prompt-fr-armelle"),
)
"""All that there are."""


@dataclass(frozen=True)
class Prompt:
    """One prompt.

    Attributes:
        name: The same in every language, such as ``"vm-goodbye"``.
        language: eSpeak NG's tag.
        voice: The speaker.
        path: Path of the audio file.
        text: Transcript, if it is known for certain.
    """

    name: str
    language: str
    voice: str
    path: Path
    text: str = ""

    @property
    def id(self) -> str:
        """Language, speaker and name."""
        return f"{self.language}/{self.voice}/{self.name}"

    def read(self, sample_rate: int) -> Tensor:
        """The waveform, ``(T,)`` float32 in [-1, 1]; ``T`` is 0 if the file holds no sample."""
        if self.path.suffix != ".gsm":
            return read_audio(self.path, sample_rate)
        samples, _ = import_extra("soundfile").read(
            str(self.path), dtype="float32", samplerate=_GSM_RATE, channels=1, format="RAW", subtype="GSM610"
        )
        return resample(torch.from_numpy(samples), _GSM_RATE, sample_rate).clamp_(-1.0, 1.0)


@dataclass(frozen=True)
class Prompts:
    """What :func:`find_prompts` found.

    Attributes:
        prompts: Those in which somebody speaks, in the order of sets and names.
        wordings: For each name its transcripts, in every language that has one.
    """

    prompts: Sequence[Prompt]
    wordings: dict[str, set[str]]


def find_prompts(packages: Iterable[str | Path], sets: Sequence[PromptSet] = PROMPT_SETS) -> Prompts:
    """List the prompts; those that are tones or silence in one language are left out in all.

    Args:
        packages: Folders that packages are unpacked in; ``"/"`` for packages that are installed.
        sets: Which are wanted.

    Raises:
        FileNotFoundError: A set, or the text of one, is in no folder; the message explains how to get it.
    """
    roots = [Path(root).expanduser() for root in packages]
    folders, transcripts, missing = {}, {}, []
    for each in sets:
        folder = next((at for root in roots if _files(at := root / _SOUNDS / each.folder, each.ending)), None)
        folders[each] = folder
        missing += [each.package] if folder is None else []
        if each.transcript is not None:
            file = _DOCS / each.transcript / f"{each.transcript.removeprefix('asterisk-')}.txt.gz"
            found = next((root / file for root in roots if (root / file).is_file()), None)
            missing += [each.transcript] if found is None else []
            if found is not None:
                transcripts[each] = read_transcript(found)
    if missing:
        raise FileNotFoundError(
            f"packages={[str(root) for root in roots]}: no prompts of {', '.join(missing)}. On Debian or Ubuntu, "
            f"in the first of them: apt-get download {' '.join(missing)}, and for each file: dpkg -x FILE ."
        )
    wordings: dict[str, set[str]] = {}
    for transcript in transcripts.values():
        for name, text in transcript.items():
            wordings.setdefault(name, set()).add(text)
    prompts = []
    for each, folder in folders.items():
        assert folder is not None
        for path in _files(folder, each.ending):
            name = path.relative_to(folder).with_suffix("").as_posix()
            if not any(is_direction(text) for text in wordings.get(name, ())):
                text = spoken_text(transcripts.get(each, {}).get(name, ""))
                prompts.append(Prompt(name, each.language, each.voice, path, text))
    return Prompts(prompts, wordings)


def _files(folder: Path, ending: str) -> list[Path]:
    return sorted(path for path in folder.rglob(f"*{ending}") if path.is_file())


def read_transcript(path: Path) -> dict[str, str]:
    """Transcript of each prompt, from lines such as ``vm-goodbye: Goodbye!``; of two for one name, the first."""
    found: dict[str, str] = {}
    for line in gzip.decompress(path.read_bytes()).decode("utf-8-sig").splitlines():
        name, colon, text = line.partition(":")
        if colon and text.strip() and not name.startswith(";") and not re.search(r"\s", name.strip()):
            found.setdefault(name.strip(), text.strip())
    return found


def is_direction(text: str) -> bool:
    """Whether a transcript describes a sound without words: ``[this is a simple beep tone]``."""
    return re.fullmatch(r"\s*(\[[^]]*\w[^]]*\]|\([^)]*\w[^)]*\)|<[^>]*>)\s*", text) is not None


def spoken_text(text: str) -> str:
    """The words of a transcript, or nothing if they are in doubt.

    A symbol in brackets, ``slash [/]``, is how the word before it is written. Words in brackets may be said or
    not, a name repeated in front (``vm-goodbye: ...``) is not, and a question mark in the middle stands for a
    letter that was lost.

    Example:
        >>> spoken_text("slash [/]"), spoken_text("Sorry, [that] is invalid."), spoken_text("sar? esattamente")
        ('slash', '', '')
    """
    text = re.sub(r"[\[(<][^\w\])>]*[\])>]", " ", text)
    lost = re.search(r"\?\s*[^\W\d_]", text) is not None and re.search(r"\?\s+[A-ZÀ-ÞЀ-Я]", text) is None
    doubtful = lost or re.search(r"[\[\](){}<>_�]", text) or re.match(r"[\w/-]+: ", text)
    return "" if doubtful else " ".join(text.split())
