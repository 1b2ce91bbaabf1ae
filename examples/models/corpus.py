"""Features of speech whose statistics are fitted once on the training data and travel in the checkpoint."""

import random
from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn


class FrontEnd(nn.Module):
    """Frame features standardised by the mean and standard deviation of a corpus.

    The statistics belong to the corpus and not to the utterance, so that a segment encoded alone gets the
    features that it has inside its utterance. A subclass defines the frames (:meth:`frames`).

    Args:
        dim: number of features in a frame.

    Attributes:
        mean: (dim,) float32 buffer, zeros until fitted.
        std: (dim,) float32 buffer, ones until fitted.
        fitted: () bool buffer, whether the buffers hold the statistics of a corpus.
    """

    mean: Tensor
    std: Tensor
    fitted: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))
        self.register_buffer("fitted", torch.tensor(False))

    def frames(self, waveforms: Tensor) -> Tensor:
        """Features before standardisation: (B, T) float32 samples to (B, frames, dim) float32."""
        raise NotImplementedError

    def standardise(self, frames: Tensor) -> Tensor:
        """Features (..., dim) with the corpus' mean taken off, in units of its standard deviation."""
        return (frames - self.mean) / self.std

    def fit(self, frames: Tensor) -> None:
        """Take the statistics of ``frames`` (N, dim) float32.

        Raises:
            ValueError: if there are fewer than two frames.
        """
        if len(frames) < 2:
            raise ValueError(
                f"frames: got {len(frames)} frames of training data, expected at least 2 to take their mean "
                "and deviation; give longer waveforms or raise fit_utterances"
            )
        self.mean.copy_(frames.mean(0))
        # A feature that never moves (a band that holds nothing) is left alone instead of divided by zero.
        std = frames.std(0)
        self.std.copy_(torch.where(std > 1e-5, std, torch.ones_like(std)))
        self.fitted.fill_(True)

    @torch.no_grad()
    def fit_on(self, trainer: pl.Trainer, utterances: int, seed: int) -> None:
        """Fit on at most ``utterances`` waveforms of the trainer's training data, unless fitted already.

        Every process computes the same numbers, and the first one's are then given to all. The global random
        states are left as they were.

        Args:
            trainer: the trainer, as it stands in ``LightningModule.setup``.
            utterances: how many training waveforms to read.
            seed: chooses the utterances, and the crops of a data set that crops at random.

        Raises:
            RuntimeError: if the trainer has no training data.
            ValueError: if the data hold too few frames.
        """
        if bool(self.fitted):
            return
        with isolate_rng():
            _seed_all(seed)
            parts = [
                self.frames(waveform.to(self.mean).unsqueeze(0)).squeeze(0)
                for waveform in _training_waveforms(trainer, utterances, seed)
            ]
        self.fit(torch.cat(parts) if parts else self.mean.new_zeros(0, len(self.mean)))
        self.load_state_dict(trainer.strategy.broadcast(self.state_dict()))


def _seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (a data set may crop with the global generator)
    torch.manual_seed(seed)


def _training_waveforms(trainer: pl.Trainer, count: int, seed: int) -> Iterator[Tensor]:
    """Yield at most ``count`` one-dimensional training waveforms, without their padding."""
    datamodule: Any = getattr(trainer, "datamodule", None)
    dataset = getattr(datamodule, "train_dataset", None)
    if dataset is not None:
        order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed))
        for index in order[:count].tolist():
            yield dataset[index]["waveform"]
        return
    left = count
    for batch in _training_loader(trainer):
        for waveform, length in zip(batch["waveforms"][:left], batch["lengths"].tolist(), strict=False):
            yield waveform[:length]
        left -= len(batch["waveforms"])
        if left <= 0:
            return


def _training_loader(trainer: pl.Trainer) -> Any:
    # Lightning has no public name for the training loader before its loops are set up.
    source = trainer.fit_loop._data_source
    if source.instance is None or not source.is_defined():
        raise RuntimeError(
            "trainer: got no training data, expected some to fit the statistics of the features on; pass a data "
            "module or a training loader to the trainer, or load a checkpoint, which holds them"
        )
    return source.dataloader()
