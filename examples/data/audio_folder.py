"""Any folder of audio files as a data module."""

from __future__ import annotations

import os
import statistics
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from lightning_mi.examples.data.audio_files import (
    from_int16,
    one_thread,
    read_audio,
    read_audio_file,
    to_int16,
)
from lightning_mi.examples.data.extras import import_extra
from lightning_mi.examples.data.paths import from_start
from lightning_mi.examples.data.speech import SpeechDataModule
from lightning_mi.examples.data.utterances import Recording, Utterance
from lightning_mi.validation.estimates import FEWEST_SPEAKERS

# A convolutional front end cannot take less.
_SHORTEST_SECONDS = 0.1
_LONG_SECONDS, _LONG_TIMES = 60.0, 20  # longer than both: leave it out
_NAMES_SHOWN = 5  # of each kind in the warning
# Further endings of the formats that soundfile lists; a raw file has no sample rate.
_MORE_EXTENSIONS = {"aif", "aifc", "oga", "opus", "sph"}
_NO_EXTENSIONS = {"raw"}


class AudioFolderDataModule(SpeechDataModule):
    """Every audio file below one folder, or below several.

    Files are found by their extension in all folders below, those behind symbolic links included, read by
    soundfile, mixed down to one channel and resampled. ``setup`` decodes every file and keeps what fits into
    ``memory_gb`` as 16-bit samples; the others are decoded again whenever they are asked for. What cannot be
    used (broken, empty, too short or long, without permission) is left out, samples outside of ±1 are scaled, and
    one warning says how many of each there are and names the first.

    An utterance's id is its path below the root, so moving the data does not change the split.
    ``language`` and ``voice`` are both the first folder below the root, or the root's own name for files
    that lie directly in it. Several roots count as folders side by side in one root. If all files lie in five such
    folders or more, these are taken for speakers (or sessions), and batches name them.

    Args:
        root: The folder, or a list of folders.
        min_seconds: Leave out files shorter than this; those under 0.1 s are left out in any case.
        memory_gb: Memory for decoded audio in GB, in each process that loads data.
        sample_rate: Sample rate of the waveforms in Hz.
        batch_size: Utterances per batch.
        crop_seconds: Length of the training crops in seconds.
        val_fraction: Expected part of the files that goes to validation.
        num_workers: Worker processes of each data loader.
        seed: Another seed draws another split.
        max_seconds: Leave out files longer than this: one of them pads a whole validation batch to its length.
            ``None``: those longer than a minute and than 20 times the median.

    Raises:
        ValueError: An argument is out of its range.
    """

    def __init__(
        self,
        root: str | Path | Sequence[str | Path],
        min_seconds: float = 0.0,
        memory_gb: float = 4.0,
        sample_rate: int = 16000,
        batch_size: int = 32,
        crop_seconds: float = 2.0,
        val_fraction: float = 0.2,
        num_workers: int = 0,
        seed: int = 0,
        max_seconds: float | None = None,
    ) -> None:
        super().__init__(sample_rate, batch_size, crop_seconds, val_fraction, num_workers, seed)
        roots = [root] if isinstance(root, str | Path) else list(root)
        if not roots:
            raise ValueError("root=[]: expected at least one folder")
        if min_seconds < 0:
            raise ValueError(f"min_seconds={min_seconds}: expected 0 or more")
        if max_seconds is not None and max_seconds <= max(min_seconds, _SHORTEST_SECONDS):
            raise ValueError(f"max_seconds={max_seconds}: expected more than min_seconds={min_seconds} and 0.1")
        self.roots = tuple(from_start(folder) for folder in roots)
        self.min_seconds = min_seconds
        self.max_seconds = max_seconds
        self.memory_gb = memory_gb

    def load_recordings(self) -> Sequence[Recording]:
        """Decode every file below the roots.

        Raises:
            ImportError: soundfile, torchaudio or scipy is not installed.
            ValueError: A root is no folder, or there is no audio that can be used.
        """
        with one_thread():
            return self._decode()

    def _decode(self) -> list[Recording]:
        report = Report()
        found: list[tuple[Path, Recording, float]] = []
        memory = self.memory_gb * 1e9
        shortest = max(self.min_seconds, _SHORTEST_SECONDS)
        for path, utterance in self._files(report):
            try:
                audio = read_audio_file(path, self.sample_rate)
            except (RuntimeError, OSError, ValueError, MemoryError) as error:
                report.leave_out("cannot be read", path, str(error))
                continue
            seconds = len(audio.waveform) / self.sample_rate
            if not seconds:
                report.leave_out("cannot be read", path, "empty")
                continue
            if seconds < shortest:
                report.leave_out(f"shorter than {shortest:g} s", path)
                continue
            if self.max_seconds is not None and seconds > self.max_seconds:
                report.leave_out(f"longer than {self.max_seconds:g} s", path)
                continue
            if audio.peak > 1:
                report.change("samples outside of ±1, divided by the largest", path, f"{audio.peak:.3g}")
            if audio.channels_cancel:
                report.change("channels that cancel each other, of which the loudest is taken", path)
            read = partial(read_audio, path, self.sample_rate)
            if 2 * len(audio.waveform) <= memory:
                memory -= 2 * len(audio.waveform)
                read = partial(from_int16, to_int16(audio.waveform))
            found.append((path, Recording(utterance, read), seconds))
        recordings = self._without_the_longest(found, report)
        if report.text:
            warnings.warn(report.text, stacklevel=2)
        if not recordings:
            raise ValueError(
                f"root={self._shown_roots()}: no usable audio file there; expected files with one of the "
                f"extensions {', '.join(sorted(audio_extensions()))}"
            )
        below = [Path(recording.utterance.id).parts for recording in recordings]
        folders = {parts[0] for parts in below}
        self.names_speakers = len(folders) >= FEWEST_SPEAKERS and all(len(parts) > 1 for parts in below)
        return recordings

    def _without_the_longest(self, found: list[tuple[Path, Recording, float]], report: Report) -> list[Recording]:
        if self.max_seconds is None and found:
            longest = max(_LONG_SECONDS, _LONG_TIMES * statistics.median(seconds for _, _, seconds in found))
            for path, _, seconds in found:
                if seconds > longest:
                    report.leave_out(f"longer than {longest:g} s (see `max_seconds`)", path, f"{seconds:.0f} s")
            return [recording for _, recording, seconds in found if seconds <= longest]
        return [recording for _, recording, _ in found]

    def _files(self, report: Report) -> Iterator[tuple[Path, Utterance]]:
        extensions = audio_extensions()
        names: set[str] = set()
        for root in self.roots:
            if not root.is_dir():
                raise ValueError(f"root={self._shown_roots()}: {str(root)!r} is not a folder")
            name, copies = root.name, 1
            while name in names:
                copies += 1
                name = f"{root.name}-{copies}"
            names.add(name)
            for path in _walk(root, report):
                if path.suffix[1:].lower() not in extensions:
                    continue
                below = path.relative_to(root)
                if len(self.roots) > 1:
                    below = Path(name) / below  # as if the roots lay together in one folder
                group = shown(below.parts[0] if len(below.parts) > 1 else name)
                yield path, Utterance(shown(below.as_posix()), language=group, voice=group)

    def _shown_roots(self) -> str:
        return ", ".join(repr(str(root)) for root in self.roots)


def audio_extensions() -> frozenset[str]:
    """Extensions that soundfile reads, in lower case and without the dot.

    Raises:
        ImportError: soundfile is not installed.
    """
    formats = {name.lower() for name in import_extra("soundfile").available_formats()}
    return frozenset((formats | _MORE_EXTENSIONS) - _NO_EXTENSIONS)


def shown(name: str | Path) -> str:
    """A file name as text: bytes that are no UTF-8 become escapes, and any other name stays as it is."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


class Report:
    """What was left out of a folder and what was changed, with counts and the first names of each kind."""

    def __init__(self) -> None:
        self._left_out: dict[str, list[str]] = {}
        self._changed: dict[str, list[str]] = {}

    def leave_out(self, kind: str, path: Path, why: str = "") -> None:
        """Note a file or folder that is not used."""
        self._left_out.setdefault(kind, []).append(f"{shown(path)} ({shown(why)})" if why else shown(path))

    def change(self, kind: str, path: Path, why: str = "") -> None:
        """Note a file that is used otherwise than it is."""
        self._changed.setdefault(kind, []).append(f"{shown(path)} ({why})" if why else shown(path))

    @property
    def text(self) -> str:
        """All of it in one text; empty if there is nothing to say."""
        parts = [f"left out {_counted(kind, names)}" for kind, names in self._left_out.items()]
        parts += [f"changed {_counted(kind, names)}" for kind, names in self._changed.items()]
        return "; ".join(parts)


def _counted(kind: str, names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return f"{len(names)} file(s), {kind}: {', '.join(names[:_NAMES_SHOWN])}{more}"


def _walk(root: Path, report: Report) -> Iterator[Path]:
    """Yield the files below ``root`` in sorted order, through symbolic links but never into a loop."""

    def enter(folder: Path, above: frozenset[str]) -> Iterator[Path]:
        real = os.path.realpath(folder)
        if real in above:
            return
        try:
            paths = sorted(folder.iterdir())
        except OSError as error:  # no permission, or it has gone
            report.leave_out("cannot be read", folder, error.strerror or str(error))
            return
        for path in paths:
            if os.path.isdir(path):
                yield from enter(path, above | {real})
            elif os.path.isfile(path):
                yield path

    return enter(root, frozenset())
