"""Train the zoo: every run of the config, one after the other, checkpoints at steps that grow by a factor.

    python examples/model_selection/train_zoo.py zoo=small
    python examples/model_selection/train_zoo.py 'only=apc*'

A run that has all of its checkpoints is left alone, and one that was stopped goes on at its last checkpoint.
"""

from __future__ import annotations

import fnmatch
import logging
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
import lightning.pytorch as pl
import torch
from omegaconf import DictConfig
from tqdm.auto import tqdm  # type: ignore[import-untyped,unused-ignore]

from lightning_mi.examples.model_selection.speech import SCORE, TRAIN, ZooData
from lightning_mi.examples.model_selection.zoo import Run, corpora, runs


class KeepAt(pl.Callback):
    """Keep a checkpoint after each number of ``steps``, and show the progress.

    A checkpoint is written under another name and renamed, so one that is there is whole.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self._bar: Any = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the untrained model, where it is asked for."""
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
        """Keep the model, where it is asked for."""
        self._bar.update()
        self._keep(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the bar away."""
        self._bar.close()

    def _keep(self, trainer: pl.Trainer) -> None:
        path = self.run.checkpoint(trainer.global_step)
        if trainer.global_step in self.run.steps and not path.exists():
            partial = path.with_suffix(".partial")
            trainer.save_checkpoint(partial)
            partial.rename(path)


def train(run: Run, data: ZooData, accelerator: str) -> None:
    """Train one run from its last checkpoint, or from the start, to its last step."""
    done = [step for step in run.steps if run.checkpoint(step).exists()]
    if len(done) == len(run.steps):
        return
    run.folder.mkdir(parents=True, exist_ok=True)
    # Another seed where a run goes on: it has seen the batches of the first already.
    pl.seed_everything(run.seed + max(done, default=0), verbose=False)
    trainer = pl.Trainer(
        accelerator=accelerator,
        devices=1,
        max_steps=max(1, *run.steps),
        limit_val_batches=0,
        gradient_clip_val=run.gradient_clip,
        callbacks=[KeepAt(run)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(run.build(), data, ckpt_path=run.checkpoint(max(done)) if done else None, weights_only=False)


def wanted(every: Sequence[Run], only: str) -> list[Run]:
    """Those whose names match the glob ``only``."""
    return [run for run in every if fnmatch.fnmatch(run.name, only)]


@hydra.main(version_base="1.3", config_path="../../configs", config_name="model_selection")
def main(config: DictConfig) -> None:
    """Train what ``config`` describes."""
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # a run's start and end are no news here
    torch.set_num_threads(config.threads)
    speech = corpora(config)
    recordings, held_out = speech.recordings(TRAIN), speech.recordings(SCORE)
    progress = tqdm(wanted(runs(config), config.only), desc="runs", unit="run", disable=None)
    for run in progress:
        start = time.perf_counter()
        data = ZooData(recordings, held_out, config.batch_size, config.crop_seconds, run.noise)
        train(run, data, config.accelerator)
        progress.write(f"{run.name}: {len(run.steps)} checkpoints, {time.perf_counter() - start:.0f} s")
    print(f"checkpoints: {Path(config.folder) / 'checkpoints'}")


if __name__ == "__main__":
    main()
