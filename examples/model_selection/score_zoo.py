"""Score every checkpoint of the zoo, with labels and without; what is made is kept, and made once.

    python examples/model_selection/score_zoo.py zoo=small

Each checkpoint's embeddings go to `embeddings/`, its accuracies to `truth/` and its scores to `scores/`, all in
the zoo's folder. What a grid that has grown asks for is added. Delete `scores/` to score the kept embeddings anew.
"""

from __future__ import annotations

import json
import logging
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import lightning.pytorch as pl
import torch
from omegaconf import DictConfig
from tqdm.auto import tqdm  # type: ignore[import-untyped,unused-ignore]

from lightning_mi.examples.model_selection.encode import Embedded, embed
from lightning_mi.examples.model_selection.scores import as_json, labelled, score_all, score_names
from lightning_mi.examples.model_selection.segments import VARIED, VIEWS, Segments
from lightning_mi.examples.model_selection.speech import SCORE, ZooData
from lightning_mi.examples.model_selection.truth import TruthSpeech, accuracies
from lightning_mi.examples.model_selection.zoo import Checkpoint, corpora, crops, cutter, trained


class Scorer:
    """Scores checkpoints, each step of which is kept on disk.

    Args:
        config: The zoo's.
    """

    def __init__(self, config: DictConfig) -> None:
        self.folder = Path(config.folder)
        self.device = torch.device("cuda" if config.accelerator != "cpu" and torch.cuda.is_available() else "cpu")
        speech = corpora(config)
        cut = cutter(config)
        self.segments: Segments = cut(speech.load(SCORE))
        self.seconds = cut.seconds
        self.truth: TruthSpeech = crops(config, speech)
        self.validation = ZooData([], speech.recordings(SCORE)[: config.score.validation_utterances], 32, 1.0)
        self.validation.setup()

    def __call__(self, checkpoint: Checkpoint) -> None:
        """Do what is not done yet."""
        truth, scores = (self._path(kind, checkpoint, "json") for kind in ("truth", "scores"))
        if not truth.exists():
            module = checkpoint.run.restore(checkpoint.step).to(self.device)
            values = accuracies(lambda waveforms: module(waveforms.to(self.device)), self.truth)
            write_json(truth, values | {"validation_loss": self._validation_loss(module)})
        found: dict[str, Any] = json.loads(scores.read_text(encoding="utf-8")) if scores.exists() else {}
        if not found.get("finite", True) or score_names() <= found.get("scores", {}).keys():
            return
        embedded = self._embedded(checkpoint)
        start = time.perf_counter()
        found["finite"] = embedded.is_finite()
        if found["finite"]:
            known = found.setdefault("scores", {})
            known |= as_json(score_all(embedded, self.segments, known))
            found["labelled"] = found.get("labelled") or as_json(labelled(embedded, self.segments))
        found["seconds"] = found.get("seconds", 0.0) + time.perf_counter() - start
        write_json(scores, found)

    def _embedded(self, checkpoint: Checkpoint) -> Embedded:
        """The kept embeddings, with those of views that are new."""
        path = self._path("embeddings", checkpoint, "pt")
        kept = Embedded(**torch.load(path, weights_only=True)) if path.exists() else Embedded({}, torch.empty(0))
        views = [view for view in VIEWS if not kept.has(view)]
        if not views:
            return kept
        module = checkpoint.run.restore(checkpoint.step).to(self.device)
        embedded = embed(lambda waveforms: module(waveforms.to(self.device)), self.segments, self.seconds, views)
        embedded = Embedded(kept.pooled | embedded.pooled, embedded.frames if VARIED in views else kept.frames)
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

    def _path(self, kind: str, checkpoint: Checkpoint, suffix: str) -> Path:
        folder = self.folder / kind
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{checkpoint.name}.{suffix}"


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write ``values`` so that a file that is there is whole."""
    partial = path.with_suffix(f".partial{os.getpid()}")
    partial.write_text(json.dumps(values, indent=1), encoding="utf-8")
    partial.rename(path)


def score_each(config: DictConfig, scorer: Callable[[DictConfig], Callable[[Checkpoint], None]]) -> int:
    """Do with every checkpoint that is there what ``scorer`` makes of the config, and count them.

    Raises:
        FileNotFoundError: If there is none.
    """
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    torch.set_num_threads(config.threads)
    checkpoints = list(trained(config))
    if not checkpoints:
        raise FileNotFoundError(
            f"folder={config.folder}: no checkpoints; run train_zoo.py with the same zoo first"
        )
    score = scorer(config)
    if config.score.last_first:
        checkpoints.reverse()
    for checkpoint in tqdm(checkpoints, desc="checkpoints", unit="checkpoint", disable=None):
        score(checkpoint)
    return len(checkpoints)


@hydra.main(version_base="1.3", config_path="../../configs", config_name="model_selection")
def main(config: DictConfig) -> None:
    """Score the checkpoints that are there."""
    count = score_each(config, Scorer)
    print(f"{count} checkpoints scored: {Path(config.folder) / 'scores'}")


if __name__ == "__main__":
    main()
