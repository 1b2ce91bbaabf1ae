"""LibriSpeech as a data module, with its own division into parts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lightning_mi.examples.data.audio_files import read_audio
from lightning_mi.examples.data.extras import import_extra
from lightning_mi.examples.data.paths import from_start
from lightning_mi.examples.data.speech import SpeechDataModule
from lightning_mi.examples.data.utterances import Recording, Utterance


class LibriSpeechDataModule(SpeechDataModule):
    """Parts of LibriSpeech: one to train on, one to validate on, and perhaps one to test on.

    ``language`` is ``"en"``, ``voice`` the speaker's number and ``text`` the transcript in capitals. The
    parts are used as they come, so there is no ``val_fraction``.

    Args:
        root: The folder that holds ``LibriSpeech/``.
        train_url: The part to train on.
        val_url: The part to validate on.
        test_url: The part to test on; ``None`` tests on the validation part.
        download: Fetch parts that are missing (6 GB for ``train-clean-100``).
        sample_rate: Sample rate of the waveforms in Hz.
        batch_size: Utterances per batch.
        crop_seconds: Length of the training crops in seconds.
        num_workers: Worker processes of each data loader.

    Raises:
        ValueError: An argument is out of its range.
    """

    names_speakers = True

    def __init__(
        self,
        root: str | Path,
        train_url: str = "train-clean-100",
        val_url: str = "dev-clean",
        test_url: str | None = None,
        download: bool = False,
        sample_rate: int = 16000,
        batch_size: int = 32,
        crop_seconds: float = 2.0,
        num_workers: int = 0,
    ) -> None:
        super().__init__(sample_rate, batch_size, crop_seconds, num_workers=num_workers)
        self.root = from_start(root)
        self.train_url = train_url
        self.val_url = val_url
        self.test_url = test_url
        self.download = download

    def prepare_data(self) -> None:
        """Download what is missing if ``download`` is set; otherwise check that it is there.

        Raises:
            ImportError: torchaudio is not installed.
            FileNotFoundError: A part is missing and ``download`` is not set.
            ValueError: LibriSpeech has no part of that name.
        """
        if self.download:
            self.root.mkdir(parents=True, exist_ok=True)
        for url in (self.train_url, self.val_url, self.test_url):
            if url is not None:
                self._part(url, self.download)

    def load_split(self) -> tuple[Sequence[Recording], Sequence[Recording]]:
        """Return the recordings of the training part and of the validation part."""
        return self._recordings(self.train_url), self._recordings(self.val_url)

    def load_test(self) -> Sequence[Recording] | None:
        """Return the recordings of the test part, if one is named."""
        return None if self.test_url is None else self._recordings(self.test_url)

    def _part(self, url: str, download: bool = False) -> Any:
        torchaudio = import_extra("torchaudio")
        folder = self.root / "LibriSpeech" / url
        try:
            return torchaudio.datasets.LIBRISPEECH(self.root, url=url, download=download)
        except RuntimeError as error:
            if download or folder.is_dir():
                raise
            raise FileNotFoundError(
                f"LibriSpeech's {url} is not at {folder}; pass root= the folder that holds LibriSpeech/, or "
                "download=True to fetch it"
            ) from error

    def _recordings(self, url: str) -> list[Recording]:
        part = self._part(url)
        recordings = []
        for i in range(len(part)):
            # Not part[i]: torchaudio's own reading needs torchcodec since 2.9.
            below, _, text, speaker, *_ = part.get_metadata(i)
            path = self.root / "LibriSpeech" / below
            utterance = Utterance(path.stem, language="en", voice=str(speaker), text=text)
            recordings.append(Recording(utterance, partial(read_audio, path, self.sample_rate)))
        if not recordings:
            raise FileNotFoundError(
                f"{self.root / 'LibriSpeech' / url} holds no .flac file; remove that folder and pass "
                "download=True, or pass another root="
            )
        return recordings
