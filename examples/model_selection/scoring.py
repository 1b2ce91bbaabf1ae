"""Scoring of checkpoints: downstream accuracy, embeddings and scores, each computed once and kept on disk."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from omegaconf import DictConfig

from lightning_mi.examples.model_selection.corpora.base import SCORE
from lightning_mi.examples.model_selection.corpora.data_module import ZooData
from lightning_mi.examples.model_selection.parallel import work_through
from lightning_mi.examples.model_selection.probes import accuracies
from lightning_mi.examples.model_selection.scores.bounds import labelled_bounds
from lightning_mi.examples.model_selection.scores.conditions import CONDITIONS, SHARED
from lightning_mi.examples.model_selection.scores.embed import Embedded, embed
from lightning_mi.examples.model_selection.scores.registry import compute_scores, score_names
from lightning_mi.examples.model_selection.scores.score import as_json
from lightning_mi.examples.model_selection.zoo import (
    Checkpoint,
    corpora,
    device_of,
    probe_speech,
    segment_cutter,
    trained,
    write_json,
)


def score_each(config: DictConfig, scorer: Callable[[DictConfig], Callable[[Checkpoint], None]]) -> int:
    """Score every checkpoint on disk by what ``scorer`` makes of the config, and count them.

    Raises:
        FileNotFoundError: If there is none.
    """
    checkpoints = list(trained(config))
    if not checkpoints:
        raise FileNotFoundError(f"folder={config.folder}: no checkpoints; run train.py with the same zoo first")
    work_through(checkpoints, scorer, config, unit="checkpoint")
    return len(checkpoints)


class Scorer:
    """Scores the output of checkpoints, and keeps each step on disk.

    Args:
        config: Config of the zoo.
    """

    def __init__(self, config: DictConfig) -> None:
        self.folder = Path(config.folder)
        self.device = device_of(config)
        speech = corpora(config)
        self.segments = segment_cutter(config)(speech.load(SCORE))
        self.downstream = probe_speech(config, speech)
        self.validation = ZooData([], speech.recordings(SCORE)[: config.score.validation_utterances], 32, 1.0)
        self.validation.setup()

    def __call__(self, checkpoint: Checkpoint) -> None:
        """Compute what is not on disk."""
        self._probe(checkpoint)
        path = self.folder / "scores" / f"{checkpoint.name}.json"
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if not found.get("finite", True) or score_names() <= found.get("scores", {}).keys():
            return
        embedded = self._embedded(checkpoint)
        start = time.perf_counter()
        found["finite"] = embedded.is_finite()
        if found["finite"]:
            known = found.setdefault("scores", {})
            known |= as_json(compute_scores(embedded, self.segments, known))
            found["labelled"] = found.get("labelled") or as_json(labelled_bounds(embedded, self.segments))
        found["seconds"] = found.get("seconds", 0.0) + time.perf_counter() - start
        write_json(path, found)

    def _probe(self, checkpoint: Checkpoint) -> None:
        path = self.folder / "accuracies" / f"{checkpoint.name}.json"
        if not path.exists():
            module = checkpoint.run.restore(checkpoint.step).to(self.device)
            values = accuracies(lambda waveforms: module(waveforms.to(self.device)), self.downstream)
            write_json(path, values | {"validation_loss": self._validation_loss(module)})

    def _embedded(self, checkpoint: Checkpoint) -> Embedded:
        """The embeddings on disk, and those of conditions that are new."""
        path = self.folder / "embeddings" / f"{checkpoint.name}.pt"
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = Embedded(**torch.load(path, weights_only=True)) if path.exists() else Embedded({}, torch.empty(0))
        missing = [name for name in CONDITIONS if not kept.has(name)]
        if not missing:
            return kept
        module = checkpoint.run.restore(checkpoint.step).to(self.device)
        new = embed(lambda waveforms: module(waveforms.to(self.device)), self.segments, missing)
        embedded = Embedded(kept.pooled | new.pooled, new.frames if SHARED in missing else kept.frames)
        partial = path.with_suffix(f".partial{os.getpid()}")
        torch.save({"pooled": embedded.pooled, "frames": embedded.frames}, partial)
        partial.rename(path)
        return embedded

    def _validation_loss(self, module: pl.LightningModule) -> float:
        trainer = pl.Trainer(
            accelerator="cpu" if self.device.type == "cpu" else "auto",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.validate(module, self.validation.val_dataloader(), verbose=False)
        return float(trainer.callback_metrics["val/loss"])
