"""Training of one run, with checkpoints at given steps."""

from __future__ import annotations

import time
from typing import Any

import lightning.pytorch as pl
from omegaconf import DictConfig
from tqdm.auto import tqdm  # type: ignore[import-untyped,unused-ignore]

from lightning_mi.examples.model_selection.corpora.base import SCORE, TRAIN
from lightning_mi.examples.model_selection.corpora.data_module import ZooData
from lightning_mi.examples.model_selection.zoo import Run, corpora


class CheckpointAtSteps(pl.Callback):
    """Keep a checkpoint after each number of steps of a run, and show the progress.

    A checkpoint is written under another name and renamed, so one that exists is complete.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self._bar: Any = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the untrained model, if the run asks for it."""
        self._keep(trainer)
        self._bar = tqdm(
            total=max(self.run.steps),
            initial=trainer.global_step,
            desc=self.run.name,
            unit="step",
            leave=False,
            disable=None,
        )

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the model, if the run asks for it."""
        self._bar.update()
        self._keep(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the progress bar."""
        self._bar.close()

    def _keep(self, trainer: pl.Trainer) -> None:
        path = self.run.checkpoint(trainer.global_step)
        if trainer.global_step in self.run.steps and not path.exists():
            partial = path.with_suffix(".partial")
            trainer.save_checkpoint(partial)
            partial.rename(path)


class RunTrainer:
    """Trains runs on the speech of a zoo.

    Args:
        config: Config of the zoo.
    """

    def __init__(self, config: DictConfig) -> None:
        self.config = config
        speech = corpora(config)
        self.speech = speech.recordings(TRAIN), speech.recordings(SCORE)

    def __call__(self, run: Run) -> None:
        """Train one run and say how long it took."""
        start = time.perf_counter()
        data = ZooData(*self.speech, self.config.batch_size, self.config.crop_seconds, run.noise)
        train(run, data, self.config.accelerator)
        tqdm.write(f"{run.name}: {len(run.steps)} checkpoints, {time.perf_counter() - start:.0f} s")


def train(run: Run, data: ZooData, accelerator: str) -> None:
    """Train one run from its last checkpoint, or from the start, to its last step."""
    done = [step for step in run.steps if run.checkpoint(step).exists()]
    if len(done) == len(run.steps):
        return
    run.folder.mkdir(parents=True, exist_ok=True)
    # Another seed if a run continues: it has seen the batches of the first one already.
    pl.seed_everything(run.seed + max(done, default=0), verbose=False)
    trainer = pl.Trainer(
        accelerator=accelerator,
        devices=1,
        max_steps=max(1, *run.steps),
        limit_val_batches=0,
        gradient_clip_val=run.gradient_clip,
        callbacks=[CheckpointAtSteps(run)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(run.build(), data, ckpt_path=run.checkpoint(max(done)) if done else None, weights_only=False)
