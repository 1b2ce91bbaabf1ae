"""The zoo: its training runs and their checkpoints, and the speech and segments that its config describes."""

from __future__ import annotations

import fnmatch
import json
import logging
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf

from lightning_mi.examples.model_selection.corpora.base import DOWNSTREAM, Corpora
from lightning_mi.examples.model_selection.corpora.channel import Channel
from lightning_mi.examples.model_selection.probes import DownstreamSpeech, downstream_speech
from lightning_mi.examples.model_selection.scores.segments import SegmentCutter


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        name: Name of the run.
        objective: A name in the config's ``models``.
        degenerate: What is wrong with it on purpose; empty for a normal run.
        model: Config of the module.
        steps: Numbers of optimiser steps after which a checkpoint is kept; 0 is the untrained model.
        noise: Whether it is trained on noise.
        gradient_clip: Norm at which gradients are clipped; ``None``: they are not.
        seed: Seed of the initial weights and the batches.
        folder: Folder of its checkpoints.
    """

    name: str
    objective: str
    degenerate: str
    model: dict[str, Any]
    steps: tuple[int, ...]
    noise: bool
    gradient_clip: float | None
    seed: int
    folder: Path

    def checkpoint(self, step: int) -> Path:
        """Path of the checkpoint after ``step`` steps."""
        return self.folder / f"step_{step:06d}.ckpt"

    def build(self) -> pl.LightningModule:
        """The module with new weights."""
        module: pl.LightningModule = instantiate(self.model)
        return module

    def restore(self, step: int) -> pl.LightningModule:
        """The module after ``step`` steps, in eval mode."""
        kind: Any = get_class(self.model["_target_"])
        module: pl.LightningModule = kind.load_from_checkpoint(
            self.checkpoint(step), map_location="cpu", weights_only=False
        )
        return module.eval()


@dataclass(frozen=True)
class Checkpoint:
    """One model to be scored."""

    run: Run
    step: int

    @property
    def name(self) -> str:
        """Name of the checkpoint."""
        return f"{self.run.name}-{self.step:06d}"


def runs(config: DictConfig) -> list[Run]:
    """The runs that ``config`` describes.

    Raises:
        ValueError: If a run names no objective of ``models``, or no steps.
    """
    found = []
    for number, (name, given) in enumerate(config.runs.items()):
        if given.objective not in config.models:
            raise ValueError(
                f"runs.{name}.objective: got {given.objective!r}, expected one of {sorted(config.models)}"
            )
        steps = tuple(sorted(given.get("steps", config.steps)))
        if not steps:
            raise ValueError(f"runs.{name}.steps: got none, expected at least one number of steps")
        seed = config.seed * 1000 + number
        model: Any = OmegaConf.create(OmegaConf.to_container(config.models[given.objective], resolve=True))
        model = OmegaConf.merge(model, given.get("model", {}), {"seed": seed})
        found.append(
            Run(
                name=str(name),
                objective=given.objective,
                degenerate=given.get("degenerate", ""),
                model=OmegaConf.to_container(model, resolve=True),  # type: ignore[arg-type]
                steps=steps,
                noise=given.get("noise", False),
                gradient_clip=given.get("gradient_clip", config.gradient_clip),
                seed=seed,
                folder=Path(config.folder) / "checkpoints" / str(name),
            )
        )
    return found


def selected(config: DictConfig) -> list[Run]:
    """The runs whose names match the glob ``config.only``."""
    return [run for run in runs(config) if fnmatch.fnmatch(run.name, config.only)]


def trained(config: DictConfig) -> Iterator[Checkpoint]:
    """The checkpoints that are on disk."""
    for run in runs(config):
        for step in run.steps:
            if run.checkpoint(step).exists():
                yield Checkpoint(run, step)


def corpora(config: DictConfig) -> Corpora:
    """The speech that ``config`` describes."""
    options: Any = OmegaConf.to_container(config.speech, resolve=True)
    kind: Any = get_class(options.pop("_target_"))
    found: Corpora = kind(**options, channel=Channel(), seed=config.seed)
    return found


def segment_cutter(config: DictConfig) -> SegmentCutter:
    """How the scored segments are cut."""
    return SegmentCutter(
        Channel(), config.score.segment_seconds, config.score.pairs_per_utterance, seed=config.seed
    )


def probe_speech(config: DictConfig, speech: Corpora) -> DownstreamSpeech:
    """The speech that the probes are fitted and tested on."""
    options = config.probes
    return downstream_speech(
        speech.recordings(DOWNSTREAM),
        speech.splits,
        options.crop_seconds,
        options.frames,
        options.crops,
        seed=config.seed,
    )


def prepare_process(config: DictConfig) -> None:
    """Set the number of threads and silence what Lightning reports at every run's start and end."""
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    torch.set_num_threads(config.threads)


def device_of(config: DictConfig) -> torch.device:
    """A GPU if there is one and ``config.accelerator`` allows it, else the CPU."""
    return torch.device("cuda" if config.accelerator != "cpu" and torch.cuda.is_available() else "cpu")


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write ``values`` under another name and rename, so that a file that exists is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".partial{os.getpid()}")
    partial.write_text(json.dumps(values, indent=1), encoding="utf-8")
    partial.rename(path)
