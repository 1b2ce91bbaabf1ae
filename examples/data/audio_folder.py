"""Any folder of audio files as a data module."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from lightning_mi.examples.data.audio_files import from_int16, one_thread, read_audio, to_int16
from lightning_mi.examples.data.extras import import_extra
from lightning_mi.examples.data.speech import SpeechDataModule
from lightning_mi.examples.data.utterances import Recording, Utterance

# A convolutional front end cannot take less.
_SHORTEST_SECONDS = 0.1
# Further endings of the formats that soundfile lists; a raw file has no sample rate.
_MORE_EXTENSIONS = {"aif", "aifc", "oga", "opus", "sph"}
_NO_EXTENSIONS = {"raw"}


class AudioFolderDataModule(SpeechDataModule):
    """Every audio file below one folder, or below several.

    Files are found by their extension in all folders below, those behind symbolic links included, read by
    soundfile, mixed down to one channel and resampled. ``setup`` decodes every file, which shows the broken
    ones, and keeps what fits into ``memory_gb`` as 16-bit samples; the others are decoded again whenever
    they are asked for.

    An utterance's id is its path below the root, so moving the data does not change the split.
    ``language`` and ``voice`` are both the first folder below the root, or the root's own name for files
    that lie directly in it. Several roots count as folders side by side in one root.

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
        max_seconds: float = math.inf,
    ) -> None:
        super().__init__(sample_rate, batch_size, crop_seconds, val_fraction, num_workers, seed)
        roots = [root] if isinstance(root, str | Path) else list(root)
        if not roots:
            raise ValueError("root=[]: expected at least one folder")
        if min_seconds < 0:
            raise ValueError(f"min_seconds={min_seconds}: expected 0 or more")
        if max_seconds <= max(min_seconds, _SHORTEST_SECONDS):
            raise ValueError(f"max_seconds={max_seconds}: expected more than min_seconds={min_seconds} and 0.1")
        self.roots = tuple(Path(folder).expanduser().absolute() for folder in roots)
        self.min_seconds = min_seconds
        self.max_seconds = max_seconds
        self.memory_gb = memory_gb

    def load_recordings(self) -> Sequence[Recording]:
        """Decode every file below the roots.

        Raises:
            ImportError: soundfile or torchaudio is not installed.
            ValueError: A root is no folder, or there is no audio that can be used.
        """
        with one_thread():
            return self._decode()

    def _decode(self) -> list[Recording]:
        recordings: list[Recording] = []
        unreadable: list[str] = []
        short = long = 0
        memory = self.memory_gb * 1e9
        shortest = max(self.min_seconds, _SHORTEST_SECONDS) * self.sample_rate
        for path, utterance in self._files():
            try:
                waveform = read_audio(path, self.sample_rate)
            except (RuntimeError, OSError, ValueError) as error:
                unreadable.append(f"{path} ({error})")
                continue
            if not len(waveform):
                unreadable.append(f"{path} (empty)")
            elif len(waveform) < shortest:
                short += 1
            elif len(waveform) > self.max_seconds * self.sample_rate:
                long += 1
            elif 2 * len(waveform) <= memory:
                memory -= 2 * len(waveform)
                recordings.append(Recording(utterance, partial(from_int16, to_int16(waveform))))
            else:
                recordings.append(Recording(utterance, partial(read_audio, path, self.sample_rate)))
        if unreadable:
            warnings.warn(
                f"left out {len(unreadable)} file(s) that cannot be read: {'; '.join(unreadable)}",
                stacklevel=2,
            )
        if short:
            seconds = max(self.min_seconds, _SHORTEST_SECONDS)
            warnings.warn(f"left out {short} file(s) shorter than {seconds} s", stacklevel=2)
        if long:
            warnings.warn(f"left out {long} file(s) longer than {self.max_seconds} s", stacklevel=2)
        if not recordings:
            raise ValueError(
                f"root={self._shown_roots()}: no usable audio file there; expected files with one of the "
                f"extensions {', '.join(sorted(audio_extensions()))}"
            )
        return recordings

    def _files(self) -> Iterator[tuple[Path, Utterance]]:
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
            for path in _walk(root):
                if path.suffix[1:].lower() not in extensions:
                    continue
                below = path.relative_to(root)
                if len(self.roots) > 1:
                    below = Path(name) / below  # as if the roots lay together in one folder
                group = below.parts[0] if len(below.parts) > 1 else name
                yield path, Utterance(below.as_posix(), language=group, voice=group)

    def _shown_roots(self) -> str:
        return ", ".join(repr(str(root)) for root in self.roots)


def audio_extensions() -> frozenset[str]:
    """Extensions that soundfile reads, in lower case and without the dot.

    Raises:
        ImportError: soundfile is not installed.
    """
    formats = {name.lower() for name in import_extra("soundfile").available_formats()}
    return frozenset((formats | _MORE_EXTENSIONS) - _NO_EXTENSIONS)


def _walk(root: Path) -> Iterator[Path]:
    """Yield the files below ``root`` in sorted order, through symbolic links but never into a loop."""

    def enter(folder: Path, above: frozenset[str]) -> Iterator[Path]:
        real = os.path.realpath(folder)
        if real in above:
            return
        for path in sorted(folder.iterdir()):
            if path.is_dir():
                yield from enter(path, above | {real})
            elif path.is_file():
                yield path

    return enter(root, frozenset())
