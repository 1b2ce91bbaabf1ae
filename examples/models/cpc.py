"""Contrastive predictive coding (CPC): distinguish future frames from other frames."""

from typing import Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_mi.examples.models.apc import LogMel
from lightning_mi.examples.models.optim import warmup_adamw

Negatives = Literal["within", "across"]


class CPCModule(pl.LightningModule):
    """CPC of van den Oord et al. 2018 ("Representation learning with contrastive predictive coding",
    arXiv:1807.03748), on log-mel frames in the place of the waveform, for two CPU cores.

    A convolution of two frames makes local features z (50 a second), a GRU sums up the past of them as c, and for
    each of ``horizon`` steps ahead a linear map of c distinguishes the true z from others. The loss is InfoNCE,
    ``-log exp(s+) / (exp(s+) + sum exp(s-))`` with ``s = z W_k c / sqrt(D)``, in nats, its mean over the steps and
    the frames that lie in the utterances. Logs ``train/loss`` and ``val/loss``.

    The source of the negatives decides what is learnt. What all frames of an utterance share (channel, speaker)
    does not distinguish frames ``"within"`` one utterance, but does distinguish frames ``"across"`` utterances.

    Args:
        n_mels: mel bands of the input.
        dim: size of the local features.
        hidden: units of the GRU.
        num_layers: its layers.
        horizon: how many steps (of 20 ms) ahead to predict, each with a map of its own.
        negatives: "within": all other frames of the same utterance; "across": frames of other utterances.
        num_negatives: at most so many frames of the batch to choose from, with "across".
        sample_rate: samples per second of the waveforms.
        lr: the highest learning rate.
        warmup_steps: steps to reach it.
        total_steps: step at which it has fallen to zero, or None to stay.
        weight_decay: AdamW's weight decay.
        fit_utterances: training waveforms from which the features' mean and deviation are taken.
        seed: chooses those waveforms.

    Raises:
        ValueError: if a size is not positive, or ``negatives`` is another word.
    """

    def __init__(
        self,
        n_mels: int = 40,
        dim: int = 64,
        hidden: int = 128,
        num_layers: int = 1,
        horizon: int = 8,
        negatives: Negatives = "within",
        num_negatives: int = 256,
        sample_rate: int = 16000,
        lr: float = 3e-3,
        warmup_steps: int = 20,
        total_steps: int | None = None,
        weight_decay: float = 0.0,
        fit_utterances: int = 256,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value in (
            ("dim", dim),
            ("hidden", hidden),
            ("num_layers", num_layers),
            ("horizon", horizon),
            ("num_negatives", num_negatives),
        ):
            if value < 1:
                raise ValueError(f"{name}: got {value}, expected at least 1; raise it")
        if negatives not in ("within", "across"):
            raise ValueError(f"negatives: got {negatives!r}, expected 'within' or 'across'")
        self.save_hyperparameters()
        self.negatives: Negatives = negatives
        self.num_negatives = num_negatives
        self.features = LogMel(n_mels, sample_rate)
        self.local = nn.Sequential(
            nn.Conv1d(n_mels, 2 * dim, kernel_size=2, stride=2), nn.ReLU(), nn.Conv1d(2 * dim, dim, kernel_size=1)
        )
        self.encoded = nn.Identity()  # z as (B, frames, dim), a name for whoever listens to layers
        self.context = nn.GRU(dim, hidden, num_layers, batch_first=True)
        self.predictors = nn.ModuleList(nn.Linear(hidden, dim, bias=False) for _ in range(horizon))
        self._fit = (fit_utterances, seed)
        self._optim = (lr, weight_decay, warmup_steps, total_steps)

    @property
    def receptive_field(self) -> int:
        """Samples that one local feature sees."""
        return self.features.window + self.features.hop

    def setup(self, stage: str) -> None:
        """Fit the features' statistics, unless they came with a checkpoint."""
        self.features.fit_on(self.trainer, *self._fit)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Encode waveforms.

        Args:
            waveforms: (B, T) float32 samples.

        Returns:
            (B, frames, hidden) the contexts c, 50 frames per second. Frame ``t`` depends on the samples up to its
            window's end alone.

        Raises:
            ValueError: if the waveforms are shorter than two windows' 35 ms.
        """
        if waveforms.shape[-1] < self.receptive_field:
            raise ValueError(
                f"waveforms: got {waveforms.shape[-1]} samples, expected at least {self.receptive_field} "
                "(two windows); give longer segments"
            )
        return self.encode(waveforms)[1]

    def encode(self, waveforms: Tensor) -> tuple[Tensor, Tensor]:
        """Local features ``(B, T', dim)`` and contexts ``(B, T', hidden)`` of ``waveforms`` ``(B, T)``."""
        z: Tensor = self.encoded(self.local(self.features(waveforms).transpose(1, 2)).transpose(1, 2))
        c: Tensor = self.context(z)[0]
        return z, c

    def loss(self, batch: dict[str, Tensor], draw: bool = True) -> Tensor:
        """InfoNCE in nats, 0-d, of ``waveforms`` ``(B, T)`` with ``lengths`` ``(B,)``; negatives are drawn at
        random, or evenly if ``draw`` is false."""
        horizon = len(self.predictors)
        # At least one frame and one to predict, so that a batch of scraps is a batch with no valid frame.
        waveforms = batch["waveforms"]
        least = self.features.window + self.features.hop * (2 * horizon + 3)
        z, c = self.encode(F.pad(waveforms, (0, max(0, least - waveforms.shape[-1]))))
        counts = torch.div(self.features.num_frames(batch["lengths"]), 2, rounding_mode="floor")
        real = torch.arange(z.shape[1], device=z.device) < counts.unsqueeze(1)
        others, may_be_negative = self._others(z, real, draw)
        loss = z.new_zeros(())
        for ahead, predictor in enumerate(self.predictors, start=1):
            predicted = predictor(c[:, :-ahead]).float() / z.shape[-1] ** 0.5
            positive = (predicted * z[:, ahead:].float()).sum(-1, keepdim=True)
            negative = predicted @ others.float().transpose(1, 2)
            allowed = may_be_negative.unsqueeze(1).expand_as(negative)
            if self.negatives == "within":
                itself = torch.eye(z.shape[1], dtype=torch.bool, device=z.device)[ahead:]
                allowed = allowed & ~itself
            scores = torch.cat([positive, negative.masked_fill(~allowed, float("-inf"))], dim=-1)
            surprise = -scores.log_softmax(dim=-1)[..., 0]
            valid = real[:, ahead:]
            loss = loss + (surprise * valid).sum() / valid.sum().clamp(min=1)
        return loss / horizon

    def _others(self, z: Tensor, real: Tensor, draw: bool) -> tuple[Tensor, Tensor]:
        """For each utterance the negative frames (B, M, dim), and which are allowed (B, M)."""
        if self.negatives == "within":
            return z, real
        batch, frames = real.shape
        count = min(self.num_negatives, batch * frames)
        if draw:
            chosen = torch.randperm(batch * frames)[:count].to(z.device)
        else:
            chosen = torch.linspace(0, batch * frames - 1, count, device=z.device).round().long()
        others = z.flatten(0, 1)[chosen].expand(batch, -1, -1)
        owner = torch.div(chosen, frames, rounding_mode="floor")
        foreign = owner.unsqueeze(0) != torch.arange(batch, device=z.device).unsqueeze(1)
        return others, foreign & real.flatten()[chosen]

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """InfoNCE in nats."""
        loss = self.loss(batch)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch["lengths"]))
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Log the same loss on held-out speech, the same negatives each time."""
        loss = self.loss(batch, draw=False)
        self.log("val/loss", loss, prog_bar=True, sync_dist=True, batch_size=len(batch["lengths"]))

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
