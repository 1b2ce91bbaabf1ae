"""Small real parts that many tests use: utterances with a voice and words, and a module that learns from them."""

from __future__ import annotations

import math
import os
import socket

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

SAMPLE_RATE = 1000


def utterances(count: int, seconds: float = 2.0, seed: int = 0) -> Tensor:
    """``(count, T)`` noise whose colour (a "voice") lasts for the utterance: sections share it and nothing else."""
    generator = torch.Generator().manual_seed(seed)
    length = round(seconds * SAMPLE_RATE)
    time = torch.arange(length) / SAMPLE_RATE
    pitch = 20 + 300 * torch.rand(count, 1, generator=generator)
    phase = 2 * math.pi * torch.rand(count, 1, generator=generator)
    noise = 0.3 * torch.randn(count, length, generator=generator)
    return torch.sin(2 * math.pi * pitch * time + phase) + noise


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

    def loss(self, batch: Tensor) -> Tensor:
        return (self.head(self(batch))[:, :-1] - self.spectrum(batch)[:, 1:]).abs().mean()

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


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def free_port() -> int:
    """A port on the loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
