"""A corpus on disk, as it was synthesised or prepared: one file of int16 samples and one JSON index.

The folder is named by a hash of what it would be made of, filled under another name and renamed at the end,
so a folder that has the right name is complete.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from lightning_mi.examples.data.audio_files import Int16Array, from_int16
from lightning_mi.examples.data.utterances import Recording, Utterance

# Part of the folder's name: raise it when the files, or the way from text to sound, change.
_FORMAT = 1
_AUDIO, _INDEX = "audio.int16", "index.json"


def cache_folder(root: Path, settings: dict[str, Any]) -> Path:
    """Return the folder below ``root`` for a corpus of these settings, which must be JSON values."""
    text = json.dumps({"format": _FORMAT, **settings}, sort_keys=True)
    return root / hashlib.sha256(text.encode()).hexdigest()[:16]


def write_cache(folder: Path, corpus: Iterable[tuple[Utterance, Int16Array]], about: dict[str, Any]) -> None:
    """Write ``corpus`` to ``folder``; if another process was faster, its folder stays.

    Args:
        folder: As :func:`cache_folder` names it.
        corpus: The utterances, each with its ``(T,)`` int16 samples.
        about: JSON values to keep in the index for the reader's information.
    """
    building = folder.with_name(f".building-{uuid.uuid4().hex}")
    building.mkdir(parents=True)
    try:
        entries: list[dict[str, Any]] = []
        total = 0
        with (building / _AUDIO).open("wb") as audio:
            for utterance, samples in corpus:
                audio.write(samples.astype("<i2").tobytes())
                entries.append({"offset": total, "samples": len(samples), **asdict(utterance)})
                total += len(samples)
        with (building / _INDEX).open("w", encoding="utf-8") as index:
            json.dump({**about, "samples": total, "utterances": entries}, index, ensure_ascii=False)
        try:
            building.rename(folder)
        except OSError:
            if not is_cached(folder):
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)


def is_cached(folder: Path) -> bool:
    """Whether ``folder`` holds a corpus."""
    return (folder / _INDEX).is_file()


@dataclass
class _MappedAudio:
    path: Path
    _samples: Any = None

    def __getstate__(self) -> dict[str, Any]:
        # A worker process maps the file itself; a pickled memory map would be a copy of all of it.
        return {"path": self.path, "_samples": None}

    def read(self, offset: int, samples: int) -> Tensor:
        if self._samples is None:
            self._samples = np.memmap(self.path, dtype="<i2", mode="r")
        return from_int16(self._samples[offset : offset + samples])


def read_cache(folder: Path) -> list[Recording]:
    """Return the corpus in ``folder``; the samples stay on disk and are memory-mapped.

    Raises:
        FileNotFoundError: There is no corpus in ``folder``.
        RuntimeError: The files in ``folder`` do not belong together.
    """
    with (folder / _INDEX).open(encoding="utf-8") as file:
        index = json.load(file)
    if (folder / _AUDIO).stat().st_size != 2 * index["samples"]:
        raise RuntimeError(f"{folder} is damaged: the size of {_AUDIO} is not that in {_INDEX}; delete it")
    audio = _MappedAudio(folder / _AUDIO)
    recordings = []
    for entry in index["utterances"]:
        offset, samples = entry.pop("offset"), entry.pop("samples")
        phones = tuple((symbol, start, end) for symbol, start, end in entry.pop("phones"))
        recordings.append(Recording(Utterance(phones=phones, **entry), partial(audio.read, offset, samples)))
    return recordings
