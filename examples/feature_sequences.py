"""Feature sequences in place of sound: (B, T, F) tensors, here simulated EEG with one rhythm for each recording.

python examples/feature_sequences.py
"""

import math

import lightning.pytorch as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_mi import MIBoundCallback

RATE, CHANNELS = 62.5, 8  # frames a second, electrodes


def recordings(count: int, seed: int, seconds: float = 3.0) -> torch.Tensor:
    """An EEG ``(count, T, CHANNELS)`` whose alpha rhythm, of 7 to 13 Hz, lasts while its phase and all else drift.

    Its loudness is the same in all recordings, so the rhythm is all that two segments of a recording share.
    """
    draw = torch.Generator().manual_seed(seed)
    frames = round(seconds * RATE)
    hertz = 7 + 6 * torch.rand(count, 1, generator=draw)
    steps = 2 * math.pi * hertz / RATE + 0.15 * torch.randn(count, frames, generator=draw)
    phase = 2 * math.pi * torch.rand(count, 1, generator=draw) + steps.cumsum(1)
    delay = torch.linspace(0, 2, CHANNELS)  # radians, from the back of the head to the front
    noise = torch.randn(count, frames, CHANNELS, generator=draw)
    return torch.sin(phase[..., None] - delay) + 0.7 * noise


class PredictFrames(pl.LightningModule):
    """A GRU predicts the frame 64 ms ahead, for which it has to estimate the frequency of the rhythm."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(CHANNELS, 64, num_layers=2, batch_first=True)
        self.head = nn.Linear(64, CHANNELS)

    def forward(self, eeg: torch.Tensor) -> torch.Tensor:
        return self.rnn(eeg)[0]  # (B, T, F) -> (B, T, D); the callback embeds segments with it

    def loss(self, eeg: torch.Tensor) -> torch.Tensor:
        return nn.functional.mse_loss(self.head(self(eeg))[:, :-4], eeg[:, 4:])

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        return self.loss(batch[0])

    def validation_step(self, batch: list[torch.Tensor], batch_idx: int) -> None:
        self.log("val/loss", self.loss(batch[0]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=3e-3)


class Print(pl.Callback):
    """Print one line for each validation."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            names = "val/loss", "val/mi_bound", "mi_bound/stderr", "mi_bound/input"
            loss, bound, stderr, of_input = (float(trainer.callback_metrics[name]) for name in names)
            steps = f"{trainer.global_step:4} steps   loss {loss:.3f}"
            print(f"{steps}   bound {bound:.3f} ± {stderr:.3f} nats   input {of_input:.3f} nats")


def bound() -> MIBoundCallback:
    """The callback for sequences (B, T, F): time is dimension 1, and the rate is in frames a second."""
    return MIBoundCallback(num_clusters=16, time_dim=1, sample_rate=RATE, segment_seconds=1.0, gap_seconds=0.5)


if __name__ == "__main__":
    pl.seed_everything(0)
    train, val = TensorDataset(recordings(1000, seed=1)), TensorDataset(recordings(1000, seed=2))
    trainer = pl.Trainer(
        max_epochs=8, callbacks=[bound(), Print()], enable_progress_bar=False, enable_model_summary=False
    )
    model, val_loader = PredictFrames(), DataLoader(val, 100)
    trainer.validate(model, val_loader, verbose=False)  # untrained
    trainer.fit(model, DataLoader(train, 50, shuffle=True), val_loader)
