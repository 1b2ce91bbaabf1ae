"""Autoregressive predictive coding (APC): a recurrent network that predicts log-mel frames ahead."""

import math

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.transforms import MelSpectrogram

from lightning_mi.examples.models.corpus import FrontEnd
from lightning_mi.examples.models.optim import warmup_adamw


class LogMel(FrontEnd):
    """Logarithm of the mel power spectrum, windows of 25 ms every 10 ms, standardised over the corpus.

    Frame ``t`` is computed from the samples ``[hop * t, hop * t + window)`` alone.

    Args:
        n_mels: number of mel bands.
        sample_rate: samples per second.
        floor: power below which a band counts as silent.
    """

    def __init__(self, n_mels: int = 40, sample_rate: int = 16000, floor: float = 1e-4) -> None:
        super().__init__(n_mels)
        self.window = sample_rate * 25 // 1000
        self.hop = sample_rate // 100
        self.floor = floor
        self.n_fft = 2 ** math.ceil(math.log2(self.window))
        self.mel = MelSpectrogram(
            sample_rate,
            n_fft=self.n_fft,
            win_length=self.window,
            hop_length=self.hop,
            n_mels=n_mels,
            center=False,
        )

    def num_frames(self, samples: Tensor) -> Tensor:
        """How many whole windows stand in this many samples (int64, any shape)."""
        frames = torch.div(samples - self.window, self.hop, rounding_mode="floor") + 1
        return frames.clamp(min=0)

    def frames(self, waveforms: Tensor) -> Tensor:
        """Log-mel features before standardisation: (B, T) to (B, frames, n_mels), frames possibly 0."""
        if waveforms.shape[-1] < self.window:
            return waveforms.new_zeros(waveforms.shape[0], 0, len(self.mean))
        # The short window stands in the middle of a longer transform; the padding is outside the window.
        margin = self.n_fft - self.window
        padded = F.pad(waveforms, (margin // 2, margin - margin // 2))
        power: Tensor = self.mel(padded)
        return power.clamp(min=self.floor).log().transpose(1, 2)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Standardised features: (B, T) samples to (B, frames, n_mels) float32."""
        with torch.autocast(waveforms.device.type, enabled=False):
            return self.standardise(self.frames(waveforms.float()))


class APCModule(pl.LightningModule):
    """APC of Chung et al. 2019 ("An unsupervised autoregressive model for speech representation learning",
    arXiv:1904.03240), with GRU layers.

    From the frames up to ``t`` the network predicts frame ``t + shift``; the loss is the mean absolute error
    per feature, over the frames that lie in the utterances. Every layer above the first adds its input to its
    output (a residual connection). Logs ``train/loss`` and ``val/loss``.

    Args:
        n_mels: mel bands of the input.
        hidden: units of each GRU layer.
        num_layers: GRU layers.
        shift: how many frames (of 10 ms) ahead to predict.
        dropout: dropout on the output of each layer but the last, while training.
        sample_rate: samples per second of the waveforms.
        lr: the highest learning rate.
        warmup_steps: steps to reach it.
        total_steps: step at which it has fallen to zero, or None to stay.
        weight_decay: AdamW's weight decay.
        fit_utterances: training waveforms from which the features' mean and deviation are taken.
        seed: chooses those waveforms.

    Raises:
        ValueError: if a size is not positive.
    """

    def __init__(
        self,
        n_mels: int = 40,
        hidden: int = 128,
        num_layers: int = 2,
        shift: int = 3,
        dropout: float = 0.0,
        sample_rate: int = 16000,
        lr: float = 5e-3,
        warmup_steps: int = 20,
        total_steps: int | None = None,
        weight_decay: float = 0.0,
        fit_utterances: int = 256,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value in (("hidden", hidden), ("num_layers", num_layers), ("shift", shift)):
            if value < 1:
                raise ValueError(f"{name}: got {value}, expected at least 1; raise it")
        self.save_hyperparameters()
        self.shift = shift
        self.features = LogMel(n_mels, sample_rate)
        self.layers = nn.ModuleList(
            nn.GRU(hidden if i else n_mels, hidden, batch_first=True) for i in range(num_layers)
        )
        self.dropout = nn.Dropout(dropout)
        self.encoded = nn.Identity()  # the output, a name for whoever listens to layers
        self.head = nn.Linear(hidden, n_mels)
        self._fit = (fit_utterances, seed)
        self._optim = (lr, weight_decay, warmup_steps, total_steps)

    def setup(self, stage: str) -> None:
        """Fit the features' statistics, unless they came with a checkpoint."""
        self.features.fit_on(self.trainer, *self._fit)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Encode waveforms.

        Args:
            waveforms: (B, T) float32 samples.

        Returns:
            (B, frames, hidden) output of the top layer, 100 frames per second. Frame ``t`` depends on the
            samples up to its window's end alone.

        Raises:
            ValueError: if the waveforms are shorter than one window of 25 ms.
        """
        if waveforms.shape[-1] < self.features.window:
            raise ValueError(
                f"waveforms: got {waveforms.shape[-1]} samples, expected at least {self.features.window} "
                "(one window); give longer segments"
            )
        return self.encode(self.features(waveforms))

    def encode(self, x: Tensor) -> Tensor:
        """Hidden states ``(B, T, hidden)`` of frames ``(B, T, F)``."""
        for i, layer in enumerate(self.layers):
            y: Tensor
            y, _ = layer(x if i == 0 else self.dropout(x))
            x = x + y if i else y
        encoded: Tensor = self.encoded(x)
        return encoded

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Mean absolute error of predicted frames of ``waveforms`` ``(B, T)`` with ``lengths`` ``(B,)``, 0-d."""
        waveforms = batch["waveforms"]
        # At least one frame and one to predict, so that a batch of scraps is a batch with no valid frame.
        least = self.features.window + self.features.hop * self.shift
        frames = self.features(F.pad(waveforms, (0, max(0, least - waveforms.shape[-1]))))
        predicted = self.head(self.encode(frames[:, : -self.shift]))
        left = self.features.num_frames(batch["lengths"]) - self.shift
        valid = torch.arange(predicted.shape[1], device=left.device) < left.unsqueeze(1)
        error = (predicted.float() - frames[:, self.shift :]).abs().mean(-1)
        return (error * valid).sum() / valid.sum().clamp(min=1)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Mean absolute error of the predictions, in standard deviations of the features."""
        loss = self.loss(batch)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch["lengths"]))
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Log the same loss on held-out speech."""
        self.log("val/loss", self.loss(batch), prog_bar=True, sync_dist=True, batch_size=len(batch["lengths"]))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with linear warm-up."""
        lr, weight_decay, warmup_steps, total_steps = self._optim
        return warmup_adamw(
            self.parameters(),
            lr=lr,
            weight_decay=weight_decay,
            warmup_steps=warmup_steps,
            total_steps=total_steps,
        )
