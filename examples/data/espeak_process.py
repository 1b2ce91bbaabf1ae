"""Runs the eSpeak NG program of ``espeak_engine`` and reads its answers."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from lightning_mi.examples.data.audio_files import Int16Array
from lightning_mi.examples.data.extras import import_extra
from lightning_mi.examples.data.utterances import Phone


@dataclass(frozen=True)
class Request:
    """What to speak: ``voice`` is a language and a variant ("en-us+f3"), ``rate`` is in words a minute."""

    text: str
    voice: str
    rate: int
    pitch: int


@dataclass(frozen=True)
class Spoken:
    """One utterance: ``(T,)`` int16 samples at ``sample_rate`` Hz, and its phones."""

    samples: Int16Array
    sample_rate: int
    phones: tuple[Phone, ...]


def variants() -> frozenset[str]:
    """Names of the voice variants that the installed eSpeak NG has.

    Raises:
        ImportError: espeakng-loader is not installed.
    """
    folder = Path(import_extra("espeakng_loader").get_data_path()) / "voices" / "!v"
    return frozenset(path.name for path in folder.iterdir())


def speak(requests: Sequence[Request]) -> Iterator[Spoken]:
    """Speak the requests in order, in one fresh process; the same requests give the same samples.

    Raises:
        ImportError: espeakng-loader is not installed.
        RuntimeError: eSpeak NG fails, or does not have a language; the message holds its answer.
    """
    loader = import_extra("espeakng_loader")
    job = {
        "library": str(loader.get_library_path()),
        "data": str(loader.get_data_path()),
        "requests": [asdict(request) for request in requests],
    }
    program = Path(__file__).with_name("espeak_engine.py")
    with (
        # A file and not a pipe: nobody empties it while the samples are read.
        tempfile.TemporaryFile() as complaints,
        subprocess.Popen(
            [sys.executable, "-I", str(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with suppress(BrokenPipeError):  # a process that died at once is reported below
                process.stdin.write(json.dumps(job).encode())
                process.stdin.close()
            for _ in requests:
                head = json.loads(process.stdout.readline() or "{}")
                if "error" in head:
                    raise RuntimeError(f"eSpeak NG: {head['error']}")
                data = process.stdout.read(2 * head["samples"]) if head else b""
                if not head or len(data) < 2 * head["samples"]:
                    complaints.seek(0)
                    said = complaints.read().decode(errors="replace").strip()[-500:]
                    raise RuntimeError(f"the eSpeak NG process ended early (status {process.wait()}): {said}")
                yield Spoken(
                    samples=np.frombuffer(data, dtype=np.int16),
                    sample_rate=head["sample_rate"],
                    phones=tuple((name, start / 1000, end / 1000) for name, start, end in head["phones"]),
                )
        finally:
            process.kill()  # does nothing to a process that has ended
