"""Quickstart: a plain Lightning program that stops early and keeps its best checkpoint by the bound.

python examples/quickstart.py
"""

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import nn
from torchaudio.transforms import MelSpectrogram

from lightning_mi import MIBoundCallback
from lightning_mi.examples.data import EspeakDataModule


class PredictFrames(pl.LightningModule):
    """Autoregressive predictive coding: a GRU predicts the log-mel frame 30 ms ahead."""

    def __init__(self) -> None:
        super().__init__()
        self.mel = MelSpectrogram(16_000, n_fft=512, win_length=400, hop_length=160, n_mels=40)
        self.norm = nn.BatchNorm1d(40, affine=False)
        self.rnn = nn.GRU(40, 128, num_layers=2, batch_first=True)
        self.head = nn.Linear(128, 40)

    def frames(self, waveforms: torch.Tensor) -> torch.Tensor:
        return self.norm(self.mel(waveforms).clamp(min=1e-4).log()).transpose(1, 2)

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        return self.rnn(self.frames(waveforms))[0]  # (B, T, D); the callback embeds segments with it

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        frames = self.frames(batch["waveforms"])
        return (self.head(self.rnn(frames)[0])[:, :-3] - frames[:, 3:]).abs().mean()

    def validation_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> None:
        pass  # the callback reads the batch; the bound needs nothing else

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=2e-3)


if __name__ == "__main__":
    pl.seed_everything(0)
    checkpoint = ModelCheckpoint(monitor="val/mi_bound", mode="max")
    stopping = EarlyStopping("val/mi_bound", mode="max", patience=3)
    callbacks = [MIBoundCallback(num_clusters=32), stopping, checkpoint]
    trainer = pl.Trainer(max_epochs=10, callbacks=callbacks, log_every_n_steps=10)
    data = EspeakDataModule()  # replace by your own: validation batches hold waveforms (B, T) at 16 kHz
    trainer.fit(PredictFrames(), data)
    print(f"highest bound: {checkpoint.best_model_score:.3f} nats, kept in {checkpoint.best_model_path}")
