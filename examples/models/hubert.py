"""HuBERT: masked prediction of k-means targets, on torchaudio's model."""

import math
from collections.abc import Sequence

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import functional as F
from torchaudio.models.wav2vec2.model import hubert_pretrain_model

from lightning_mi.examples.models.kmeans import KMeansTargets
from lightning_mi.examples.models.masking import ClassLogits, SpanMasks
from lightning_mi.examples.models.optim import warmup_adamw

#: Convolutions (channels, kernel, stride) of the small model: 50 frames a second at 16 kHz.
TINY_CONVOLUTIONS = ((64, 20, 10), (64, 8, 4), (128, 8, 4), (128, 4, 2))

#: Convolutions of HuBERT base and large: 50 frames a second at 16 kHz.
BASE_CONVOLUTIONS = ((512, 10, 5), *[(512, 3, 2)] * 4, *[(512, 2, 2)] * 2)


class HuBERTModule(pl.LightningModule):
    """The first iteration of HuBERT (Hsu et al. 2021, arXiv:2106.07447): predict clusters of masked MFCC.

    The loss is ``(masked_weight * CE over masked frames + unmasked_weight * CE over unmasked frames) / number
    of masked frames + feature_weight * mean square of the convolutions' output``, CE summed over frames in
    nats, as in torchaudio's recipe. Logs ``train/loss``, ``train/masked_accuracy``, ``val/loss`` and
    ``val/masked_accuracy`` (share of masked frames whose class is predicted). The masks of a validation batch
    depend on its number alone, so that epochs can be compared.

    The clusters are fitted in ``setup`` on the training data and saved in checkpoints; a module made by
    ``load_from_checkpoint`` keeps its own. (``trainer.fit(ckpt_path=...)`` restores after ``setup``: what was
    fitted then is replaced by the checkpoint's.)

    The defaults are a small model for a minute or two on two CPU cores; its shorter masks, its loss on
    unmasked frames and its lower penalty let it leave the plateau of predicting each class' frequency within
    such a time. HuBERT base, as in the paper, is ``conv_layers=None, embed_dim=768, num_layers=12,
    num_heads=12, ff_dim=3072, pos_conv_kernel=128, pos_conv_groups=16, final_dim=256, mask_prob=0.8,
    mask_length=10, unmasked_weight=0.0, feature_weight=10.0, projection_dropout=0.1, attention_dropout=0.1,
    dropout=0.1, layer_drop=0.05, feature_grad_mult=0.1, lr=5e-4, warmup_steps=32000, total_steps=250000``.
    Precision: float32 or bf16-mixed. With ``layer_drop`` and several devices, the strategy must be
    ``ddp_find_unused_parameters_true``.

    Args:
        num_classes: number of k-means clusters.
        conv_layers: (channels, kernel, stride) of each convolution on the waveform, or None for HuBERT's own.
        extractor_mode: "group_norm" (base) or "layer_norm" (large), the norm between the convolutions.
        conv_bias: whether the convolutions have a bias.
        embed_dim: features of a transformer frame.
        num_layers: transformer layers.
        num_heads: attention heads.
        ff_dim: units of the transformer's feed-forward parts.
        pos_conv_kernel: frames that the convolutional position embedding sees.
        pos_conv_groups: its groups.
        final_dim: dimension in which frames and classes are compared.
        projection_dropout: dropout after the projection of the convolutions' output.
        attention_dropout: dropout of attention weights.
        ff_dropout: dropout inside the feed-forward parts.
        dropout: dropout after the transformer's parts.
        layer_drop: probability of leaving out a transformer layer in training.
        layer_norm_first: whether the transformer normalises before its parts (large) or after (base).
        mask_prob: share of frames that masks would cover if none overlapped, in (0, 1].
        mask_length: frames in a mask.
        masked_weight: weight of the loss on masked frames.
        unmasked_weight: weight of the loss on unmasked frames.
        feature_weight: weight of the penalty on the convolutions' output.
        feature_grad_mult: factor on the gradient into the convolutions, in (0, 1].
        sample_rate: samples per second of the waveforms.
        lr: the highest learning rate.
        warmup_steps: steps to reach it.
        total_steps: step at which it has fallen to zero, or None to stay.
        weight_decay: AdamW's weight decay.
        fit_utterances: training waveforms on which the clusters are fitted.
        seed: seed of k-means, of the choice of those waveforms and of the validation masks.

    Raises:
        ValueError: if ``mask_prob`` or ``feature_grad_mult`` is out of range or a size is not positive.
    """

    def __init__(
        self,
        num_classes: int = 100,
        conv_layers: Sequence[Sequence[int]] | None = TINY_CONVOLUTIONS,
        extractor_mode: str = "group_norm",
        conv_bias: bool = False,
        embed_dim: int = 128,
        num_layers: int = 2,
        num_heads: int = 4,
        ff_dim: int = 512,
        pos_conv_kernel: int = 32,
        pos_conv_groups: int = 8,
        final_dim: int = 64,
        projection_dropout: float = 0.0,
        attention_dropout: float = 0.0,
        ff_dropout: float = 0.0,
        dropout: float = 0.0,
        layer_drop: float = 0.0,
        layer_norm_first: bool = False,
        mask_prob: float = 0.6,
        mask_length: int = 5,
        masked_weight: float = 1.0,
        unmasked_weight: float = 1.0,
        feature_weight: float = 1.0,
        feature_grad_mult: float = 1.0,
        sample_rate: int = 16000,
        lr: float = 5e-3,
        warmup_steps: int = 30,
        total_steps: int | None = None,
        weight_decay: float = 0.01,
        fit_utterances: int = 256,
        seed: int = 0,
    ) -> None:
        super().__init__()
        # Plain lists, whatever came (a tuple, a node of a configuration): they go into the checkpoint.
        conv_layers = [[int(n) for n in layer] for layer in conv_layers or BASE_CONVOLUTIONS]
        for name, value in (("num_classes", num_classes), ("mask_length", mask_length)):
            if value < 1:
                raise ValueError(f"{name}: got {value}, expected at least 1; raise it")
        for name, share in (("mask_prob", mask_prob), ("feature_grad_mult", feature_grad_mult)):
            if not 0 < share <= 1:
                raise ValueError(f"{name}: got {share}, expected a number in (0, 1]; change it")
        self.save_hyperparameters()
        self.masked_weight, self.unmasked_weight = masked_weight, unmasked_weight
        self.feature_weight = feature_weight
        self.model = hubert_pretrain_model(
            extractor_mode=extractor_mode,
            extractor_conv_layer_config=[(c, k, s) for c, k, s in conv_layers],
            extractor_conv_bias=conv_bias,
            encoder_embed_dim=embed_dim,
            encoder_projection_dropout=projection_dropout,
            encoder_pos_conv_kernel=pos_conv_kernel,
            encoder_pos_conv_groups=pos_conv_groups,
            encoder_num_layers=num_layers,
            encoder_num_heads=num_heads,
            encoder_attention_dropout=attention_dropout,
            encoder_ff_interm_features=ff_dim,
            encoder_ff_interm_dropout=ff_dropout,
            encoder_dropout=dropout,
            encoder_layer_norm_first=layer_norm_first,
            encoder_layer_drop=layer_drop,
            mask_prob=mask_prob,
            mask_selection="static",
            mask_other=0.0,
            mask_length=mask_length,
            no_mask_overlap=False,
            mask_min_space=1,
            mask_channel_prob=0.0,
            mask_channel_selection="static",
            mask_channel_other=0.0,
            mask_channel_length=10,
            no_mask_channel_overlap=False,
            mask_channel_min_space=1,
            skip_masked=False,
            skip_nomask=False,
            num_classes=num_classes,
            final_dim=final_dim,
            feature_grad_mult=None if feature_grad_mult == 1 else feature_grad_mult,
        )
        self.model.mask_generator = SpanMasks(embed_dim, mask_prob, mask_length)
        self.model.logit_generator = ClassLogits(embed_dim, num_classes, final_dim, unmasked_weight == 0)
        strides = [stride for _, _, stride in conv_layers]
        self.receptive_field = 1 + sum(
            (kernel - 1) * math.prod(strides[:i]) for i, (_, kernel, _) in enumerate(conv_layers)
        )
        self.targets = KMeansTargets(num_classes, math.prod(strides), self.receptive_field, sample_rate, seed=seed)
        self._seed = seed
        self._fit_utterances = fit_utterances
        self._optim = (lr, weight_decay, warmup_steps, total_steps)

    def setup(self, stage: str) -> None:
        """Fit the clusters, unless they came with a checkpoint."""
        self.targets.fit_on(self.trainer, self._fit_utterances, self._seed)

    def forward(self, waveforms: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Encode waveforms, nothing masked.

        Args:
            waveforms: (B, T) float32 samples.
            lengths: (B,) int64 samples before the padding, or None for no padding.

        Returns:
            (B, frames, embed_dim) output of the last transformer layer, one frame per total stride of the
            convolutions (50 a second at 16 kHz).

        Raises:
            ValueError: if the waveforms are shorter than one receptive field of the convolutions.
        """
        if waveforms.shape[-1] < self.receptive_field:
            raise ValueError(
                f"waveforms: got {waveforms.shape[-1]} samples, expected at least {self.receptive_field} "
                "(one receptive field of conv_layers); give longer segments"
            )
        features: Tensor = self.model.wav2vec2(waveforms, lengths)[0]
        return features

    def loss_and_accuracy(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Loss and accuracy on masked frames, both ()."""
        waveforms, lengths = batch["waveforms"], batch["lengths"]
        # A batch of scraps becomes one with no valid frame.
        waveforms = F.pad(waveforms, (0, max(0, self.receptive_field - waveforms.shape[-1])))
        labels = self.targets(waveforms, lengths)
        masked, unmasked, penalty = self.model(waveforms, labels, lengths)
        loss = self.masked_weight * _cross_entropy(masked)
        if unmasked is not None:
            loss = loss + self.unmasked_weight * _cross_entropy(unmasked)
        count = max(1, len(masked))
        correct = masked[:, 0] > masked[:, 1:].max(dim=1).values
        return loss / count + self.feature_weight * penalty, correct.sum() / count

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """The loss of the class' docstring, in nats per masked frame."""
        loss, accuracy = self.loss_and_accuracy(batch)
        size = len(batch["lengths"])
        self.log("train/loss", loss, prog_bar=True, batch_size=size)
        self.log("train/masked_accuracy", accuracy, batch_size=size)
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Log loss and masked accuracy on held-out speech, the same masks each time."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self._seed + batch_idx)
            loss, accuracy = self.loss_and_accuracy(batch)
        size = len(batch["lengths"])
        self.log("val/loss", loss, prog_bar=True, sync_dist=True, batch_size=size)
        self.log("val/masked_accuracy", accuracy, prog_bar=True, sync_dist=True, batch_size=size)

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


def _cross_entropy(logits: Tensor) -> Tensor:
    """Summed cross-entropy in nats, where column 0 is the true class."""
    return F.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.long), reduction="sum")
