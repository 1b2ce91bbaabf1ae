"""The LightningDataModule that the speech sources share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from lightning_mi.examples.data.utterances import Example, Recording, SpeechDataset, Utterance, collate, split


class SpeechDataModule(LightningDataModule):
    """Speech for self-supervised training: random crops to train on, whole utterances to validate on.

    A source implements :meth:`load_recordings` (one corpus, split here by a hash of the utterance ids) or
    overrides :meth:`load_split` (a corpus that comes with its own split), and :meth:`load_test` if it
    has a test set.

    Batches are ``{"waveforms": (B, T) float32 in [-1, 1], "lengths": (B,) int64, "index": (B,) int64}``;
    ``index`` is the position in ``train_utterances`` or ``val_utterances``. Of a source that
    :attr:`names_speakers`, batches also have ``"speaker": (B,) int64``, the groups of the callback's bound.

    Args:
        sample_rate: Sample rate of the waveforms in Hz.
        batch_size: Utterances per batch.
        crop_seconds: Length of the training crops in seconds; shorter utterances stay as they are.
        val_fraction: Expected part of the utterances that goes to validation, from 0 to 1.
        num_workers: Worker processes of each data loader.
        seed: Seed of the split between training and validation.

    Attributes:
        train_dataset: The training set, after :meth:`setup`.
        val_dataset: The validation set, after :meth:`setup`.
        test_dataset: The source's test set, or the validation set if it has none.
        names_speakers: Whether the ``voice`` of each utterance is known to be its speaker, after :meth:`setup`.

    Raises:
        ValueError: An argument is out of its range.
    """

    train_dataset: SpeechDataset
    val_dataset: SpeechDataset
    test_dataset: SpeechDataset
    names_speakers: bool = False

    def __init__(
        self,
        sample_rate: int = 16000,
        batch_size: int = 32,
        crop_seconds: float = 2.0,
        val_fraction: float = 0.1,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if sample_rate < 1:
            raise ValueError(f"sample_rate={sample_rate}: expected a rate in Hz, such as 16000")
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}: expected at least 1")
        if round(crop_seconds * sample_rate) < 1:
            raise ValueError(f"crop_seconds={crop_seconds}: expected at least one sample, such as 2.0")
        if not 0 <= val_fraction <= 1:
            raise ValueError(f"val_fraction={val_fraction}: expected a number from 0 to 1")
        self.sample_rate = sample_rate
        self.batch_size = batch_size
        self.crop_seconds = crop_seconds
        self.val_fraction = val_fraction
        self.num_workers = num_workers
        self.seed = seed
        self._is_set_up = False

    def load_recordings(self) -> Sequence[Recording]:
        """Return the whole corpus, to be split by ``val_fraction``."""
        raise NotImplementedError(f"{type(self).__name__} must implement load_recordings or load_split")

    def load_split(self) -> tuple[Sequence[Recording], Sequence[Recording]]:
        """Return the training and the validation recordings.

        Raises:
            ValueError: ``val_fraction`` leaves one side empty.
        """
        train, val = split(self.load_recordings(), self.val_fraction, self.seed)
        sides = {"training": (train, self.val_fraction < 1), "validation": (val, self.val_fraction > 0)}
        for side, (part, wanted) in sides.items():
            if wanted and not part:
                raise ValueError(
                    f"val_fraction={self.val_fraction} leaves nothing for {side} out of "
                    f"{len(train) + len(val)} utterance(s); give more audio, or another val_fraction or seed"
                )
        return train, val

    def load_test(self) -> Sequence[Recording] | None:
        """Return the source's own test recordings, or ``None`` to test on the validation set."""
        return None

    def setup(self, stage: str | None = None) -> None:
        """Load the corpus, once for all stages."""
        if self._is_set_up:
            return
        train, val = self.load_split()
        test = self.load_test()
        crop, named = round(self.crop_seconds * self.sample_rate), self.names_speakers
        self.train_dataset = SpeechDataset(train, crop, named)
        self.val_dataset = SpeechDataset(val, with_speakers=named)
        self.test_dataset = self.val_dataset if test is None else SpeechDataset(test, with_speakers=named)
        self._is_set_up = True

    @property
    def train_utterances(self) -> Sequence[Utterance]:
        """Records of the training utterances, in the order of ``train_dataset``."""
        return self.train_dataset.utterances

    @property
    def val_utterances(self) -> Sequence[Utterance]:
        """Records of the validation utterances, in the order of ``val_dataset``."""
        return self.val_dataset.utterances

    def train_dataloader(self) -> DataLoader[Example]:
        """Random crops in random order, without a last batch that is smaller than the others."""
        return self._loader(self.train_dataset, train=True)

    def val_dataloader(self) -> DataLoader[Example]:
        """Whole validation utterances, in order."""
        return self._loader(self.val_dataset)

    def test_dataloader(self) -> DataLoader[Example]:
        """Whole test utterances, in order; the validation set if the source has no test set."""
        return self._loader(self.test_dataset)

    def _loader(self, dataset: SpeechDataset, train: bool = False) -> DataLoader[Example]:
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            # torch's random sampler refuses an empty set, which val_fraction=1 asks for.
            shuffle=train and len(dataset) > 0,
            # Contrastive losses draw negatives from the batch: a last batch of one would have none.
            drop_last=train and len(dataset) >= self.batch_size,
            collate_fn=collate,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )
