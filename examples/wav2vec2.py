"""transformers' wav2vec 2.0, pre-trained from scratch, with the bound between adjacent and between distant frames.

Its negatives come from the same utterance. Speaker and channel are the same in all of them and do not help the
objective, so the bound is taken between single frames and not between means of segments.

python examples/wav2vec2.py
"""

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from transformers import Wav2Vec2Config, Wav2Vec2ForPreTraining
from transformers.models.wav2vec2.modeling_wav2vec2 import _compute_mask_indices, _sample_negative_indices

from lightning_mi import MIBoundCallback
from lightning_mi.examples.data import EspeakDataModule
from lightning_mi.examples.models.optim import warmup_adamw

# Two layers and four convolutions, for two CPU cores.
SMALL = Wav2Vec2Config(
    hidden_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=512,
    conv_dim=(64, 64, 128, 128),
    conv_kernel=(20, 8, 8, 4),
    conv_stride=(10, 4, 4, 2),  # 50 frames a second
    num_conv_pos_embeddings=32,
    num_conv_pos_embedding_groups=8,
    num_codevectors_per_group=32,
    codevector_dim=64,
    proj_codevector_dim=64,
    layerdrop=0.0,
    hidden_dropout=0.0,
    attention_dropout=0.0,
    activation_dropout=0.0,
    feat_proj_dropout=0.0,
    feat_quantizer_dropout=0.0,
)


class Pretraining(pl.LightningModule):
    """wav2vec 2.0 (Baevski et al. 2020, arXiv:2006.11477): find a masked frame's code among others."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Wav2Vec2ForPreTraining(SMALL)  # the callback finds it, and calls it without its head

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        self.model.set_gumbel_temperature(max(0.5, 2 * 0.995**self.global_step))
        frames = self.model._get_feat_extract_output_lengths(batch["lengths"])
        shape = len(frames), int(self.model._get_feat_extract_output_lengths(batch["waveforms"].shape[1]))
        sound = torch.arange(shape[1]) < frames.cpu()[:, None]
        # As transformers' own pre-training example does; shorter masks and fewer negatives than in the paper.
        masked = _compute_mask_indices(shape, 0.5, mask_length=4, attention_mask=sound.long(), min_masks=2)
        others = _sample_negative_indices(shape, num_negatives=20, mask_time_indices=masked)
        output = self.model(
            batch["waveforms"],
            mask_time_indices=torch.from_numpy(masked).to(self.device),
            sampled_negative_indices=torch.from_numpy(others).to(self.device),
        )
        self.log("train/contrastive", output.contrastive_loss / masked.sum(), prog_bar=True)
        loss: Tensor = output.loss / masked.sum()
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        pass  # the callback reads the batch; the bound needs nothing else

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return warmup_adamw(self.parameters(), lr=2e-3, weight_decay=0.01, warmup_steps=50)


class Print(pl.Callback):
    """Print one line for each validation."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if not trainer.sanity_checking:
            near = f"near {logged['val/mi_bound']:.3f} ± {logged['mi_bound/stderr']:.3f}"
            far = f"far {logged['mi_bound/gap_far/bound']:.3f} ± {logged['mi_bound/gap_far/stderr']:.3f}"
            loss = f"{logged['train/contrastive']:.3f}" if "train/contrastive" in logged else "    -"
            print(f"{trainer.global_step:4} steps   contrastive loss {loss}   {near}   {far} nats")


def bound() -> MIBoundCallback:
    """Between the last frame of a segment and the first of another: adjacent, and half a second or more apart."""
    return MIBoundCallback(num_clusters=32, pairs_per_utterance=4, gap_seconds=["near", "far"])


if __name__ == "__main__":
    pl.seed_everything(0)
    data = EspeakDataModule(crop_seconds=1.0, val_fraction=0.375)  # replace by your own
    trainer = pl.Trainer(
        max_epochs=12,
        check_val_every_n_epoch=3,
        callbacks=[bound(), Print()],
        gradient_clip_val=1.0,
        log_every_n_steps=10,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model = Pretraining()
    trainer.validate(model, data, verbose=False)  # untrained
    trainer.fit(model, data)
