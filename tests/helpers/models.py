"""Small models and Trainers that many tests use."""

from __future__ import annotations

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset


class Utterances(Dataset):
    """Items are rows of a tensor."""

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Tensor:
        return self.x[index]


class TinySpeechModel(pl.LightningModule):
    """Predicts the next frame's power spectrum: ``forward`` gives ``(B, T', D)``."""

    def __init__(self, frame: int = 50, dim: int = 16, lr: float = 1e-2) -> None:
        super().__init__()
        self.frame = frame
        self.lr = lr
        self.rnn = nn.GRU(frame // 2 + 1, dim, batch_first=True)
        self.head = nn.Linear(dim, frame // 2 + 1)

    def spectrum(self, x: Tensor) -> Tensor:
        x = x.reshape(x.shape[0], -1)
        frames = x.unfold(1, self.frame, self.frame)
        return torch.fft.rfft(frames.float()).abs().add(1e-3).log().to(self.head.weight.dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(self.spectrum(x))[0]

    def predict(self, x: Tensor) -> Tensor:
        """The next frames' spectra, through all layers."""
        return self.head(self(x))

    def loss(self, batch: Tensor) -> Tensor:
        return (self.predict(batch)[:, :-1] - self.spectrum(batch)[:, 1:]).abs().mean()

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val/loss", self.loss(batch))

    def test_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("test/loss", self.loss(batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.lr)


def loader(x: Tensor, batch_size: int = 32, **kwargs: object) -> DataLoader:
    return DataLoader(Utterances(x), batch_size=batch_size, **kwargs)


def quiet_trainer(**kwargs: object) -> pl.Trainer:
    """A Trainer that leaves nothing on disk and prints nothing."""
    settings: dict[str, object] = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "max_epochs": 1,
    }
    return pl.Trainer(**(settings | kwargs))
