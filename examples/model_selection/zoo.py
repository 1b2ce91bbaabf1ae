"""What the zoo's config says: its runs, and where each leaves its checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf

from .channel import Channel
from .segments import SegmentCutter
from .speech import TRUTH, Corpora
from .truth import TruthSpeech, truth_speech

UNTRAINED = "untrained"


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        name: Of the run.
        objective: A name in the zoo's ``models``.
        bad: What is wrong with it on purpose; empty for an honest run.
        model: Config of the module.
        steps: Numbers of optimiser steps after which a checkpoint is kept; 0 is the untrained model.
        noise: Whether it is trained on noise.
        gradient_clip: Norm at which gradients are clipped; ``None`` for not.
        seed: Of the initial weights and the batches.
        folder: Of its checkpoints.
    """

    name: str
    objective: str
    bad: str
    model: dict[str, Any]
    steps: tuple[int, ...]
    noise: bool
    gradient_clip: float | None
    seed: int
    folder: Path

    def checkpoint(self, step: int) -> Path:
        """Where the checkpoint after ``step`` steps is, or will be."""
        return self.folder / f"step_{step:06d}.ckpt"

    def build(self) -> pl.LightningModule:
        """The module, with new weights."""
        module: pl.LightningModule = instantiate(self.model)
        return module

    def restore(self, step: int) -> pl.LightningModule:
        """The module as it was after ``step`` steps, in eval mode."""
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
        """Of the checkpoint."""
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
                bad=given.get("bad", ""),
                model=OmegaConf.to_container(model, resolve=True),  # type: ignore[arg-type]
                steps=steps,
                noise=given.get("noise", False),
                gradient_clip=given.get("gradient_clip", config.gradient_clip),
                seed=seed,
                folder=Path(config.folder) / "checkpoints" / str(name),
            )
        )
    return found


def trained(config: DictConfig) -> Iterator[Checkpoint]:
    """The checkpoints that are on disk by now."""
    for run in runs(config):
        for step in run.steps:
            if run.checkpoint(step).exists():
                yield Checkpoint(run, step)


def corpora(config: DictConfig) -> Corpora:
    """The speech that ``config`` describes."""
    options: Any = OmegaConf.to_container(config.speech, resolve=True)
    kind: Any = get_class(options.pop("_target_"))
    options["channels"] = {part: channel(config, name) for part, name in options["channels"].items()}
    found: Corpora = kind(**options, seed=config.seed)
    return found


def channel(config: DictConfig, name: str) -> Channel:
    """The channel of that name in ``config.channels``."""
    ranges = {str(key): (float(low), float(high)) for key, (low, high) in config.channels[name].items()}
    return Channel(ranges["gain_db"], ranges["tilt_db"], ranges["snr_db"])


def cutter(config: DictConfig) -> SegmentCutter:
    """How the segments are cut that are scored."""
    return SegmentCutter(
        varied=channel(config, config.speech.channels.score),
        fixed=channel(config, "fixed"),
        strong=channel(config, "strong"),
        segment_seconds=config.score.segment_seconds,
        short_seconds=config.score.short_seconds,
        brief_seconds=config.score.brief_seconds,
        long_seconds=config.score.long_seconds,
        pairs_per_utterance=config.score.pairs_per_utterance,
        speed=config.score.speed,
        seed=config.seed,
    )


def crops(config: DictConfig, speech: Corpora) -> TruthSpeech:
    """What the truth is measured on."""
    return truth_speech(
        speech.recordings(TRUTH),
        speech.halves,
        config.truth.crop_seconds,
        config.truth.frames,
        config.truth.crops,
        seed=config.seed,
    )
