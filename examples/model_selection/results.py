"""What the other programs have left, of one zoo or of several: a row for each checkpoint."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from .ranks import Floats, Zoo
from .truth import TRUTHS
from .zoo import trained

LOSS = "validation loss"
_WHO = ("run", "step", "objective", "bad")
_LABELLED = "labelled "  # before the name of a truth


@dataclass(frozen=True)
class Scored:
    """One checkpoint.

    Attributes:
        run: Name of its run.
        step: Optimiser steps.
        objective: Of the run.
        bad: What is wrong with the run on purpose; empty for an honest one.
    """

    run: str
    step: int
    objective: str
    bad: str

    @property
    def name(self) -> str:
        """Of the checkpoint."""
        return f"{self.run}-{self.step:06d}"


@dataclass(frozen=True)
class Results:
    """Scores and truths of N checkpoints.

    Attributes:
        checkpoints: Those that have finite embeddings.
        left_out: Names of the others.
        names: Of the scores, the validation loss last.
        scores: ``(N, S)``; higher is better.
        truth: For each truth ``(N,)`` accuracies.
        labelled: For each truth ``(N,)`` labelled bounds in nats.
    """

    checkpoints: Sequence[Scored]
    left_out: Sequence[str]
    names: Sequence[str]
    scores: Floats
    truth: Mapping[str, Floats]
    labelled: Mapping[str, Floats]

    def zoo(self, truth: str) -> Zoo:
        """The scores beside one truth."""
        runs = [each.run for each in self.checkpoints]
        return Zoo(
            runs=np.array([runs.index(name) for name in runs]),
            objectives=np.array([each.objective for each in self.checkpoints]),
            steps=np.array([each.step for each in self.checkpoints]),
            honest=np.array([not each.bad for each in self.checkpoints]),
            scores=self.scores,
            truth=self.truth[truth],
        )

    def with_scores(self, names: Sequence[str]) -> Results:
        """With those scores only, in that order."""
        columns = [self.names.index(name) for name in names]
        return replace(self, names=list(names), scores=self.scores[:, columns])


def load(config: DictConfig) -> Results:
    """Read what is there of the zoo of ``config``.

    Raises:
        FileNotFoundError: If no checkpoint is scored.
    """
    kept, left_out, rows = [], [], []
    for checkpoint in trained(config):
        paths = [Path(config.folder) / kind / f"{checkpoint.name}.json" for kind in ("truth", "scores")]
        if not all(path.exists() for path in paths):
            continue
        truth, scores = (json.loads(path.read_text(encoding="utf-8")) for path in paths)
        if scores["finite"]:
            run = checkpoint.run
            kept.append(Scored(run.name, checkpoint.step, run.objective, run.bad))
            rows.append((truth, scores))
        else:
            left_out.append(checkpoint.name)
    if not rows:
        raise FileNotFoundError(
            f"folder={config.folder}: nothing is scored; run score_zoo.py with the same zoo first"
        )
    names = [name for name in rows[0][1]["scores"] if all(name in scores["scores"] for _, scores in rows)]
    table = [[scores["scores"][name]["value"] for name in names] for _, scores in rows]
    losses = np.array([-truth["validation_loss"] for truth, _ in rows])
    truths = [name for name in TRUTHS if all(name in truth for truth, _ in rows)]
    return Results(
        checkpoints=kept,
        left_out=left_out,
        names=[*names, LOSS],
        scores=np.column_stack([np.array(table), np.nan_to_num(losses, nan=-math.inf)]),
        truth={name: np.array([truth[name] for truth, _ in rows]) for name in truths},
        labelled={
            name: np.array([scores["labelled"][f"labelled bound/{name}"]["value"] for _, scores in rows])
            for name in truths
        },
    )


def write(results: Results, path: Path) -> None:
    """Keep every value as CSV, for :func:`read`."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*_WHO, *results.truth, *(_LABELLED + name for name in results.labelled), *results.names])
        columns = [*results.truth.values(), *results.labelled.values(), *results.scores.T]
        for at, each in enumerate(results.checkpoints):
            values = [f"{column[at]:.6g}" for column in columns]
            writer.writerow([each.run, each.step, each.objective, each.bad, *values])


def read(path: Path) -> Results:
    """What :func:`write` has kept.

    Raises:
        FileNotFoundError: If it has not.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: not there; run report.py on that zoo first")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    fields = list(rows[0])
    truths = [name for name in fields if _LABELLED + name in fields]
    known = {*_WHO, *truths, *(_LABELLED + name for name in truths)}
    names = [name for name in fields if name not in known]

    def column(name: str) -> Floats:
        return np.array([float(row[name]) for row in rows])

    return Results(
        checkpoints=[Scored(row["run"], int(row["step"]), row["objective"], row["bad"]) for row in rows],
        left_out=[],
        names=names,
        scores=np.stack([column(name) for name in names], axis=1),
        truth={name: column(name) for name in truths},
        labelled={name: column(_LABELLED + name) for name in truths},
    )


def in_common(parts: Sequence[Results]) -> list[Results]:
    """The same, each with the scores that all of them have, in the order of the first."""
    names = [name for name in parts[0].names if all(name in part.names for part in parts)]
    return [part.with_scores(names) for part in parts]


def together(parts: Sequence[Results]) -> Results:
    """Several zoos as one, with the scores and truths that all of them have. A run of one is another run than that
    of the same name in another: names after those of the first get the number of their zoo."""
    parts = in_common(parts)
    truths = [name for name in parts[0].truth if all(name in part.truth for part in parts)]
    numbered = [
        replace(each, run=f"{each.run}.{number}" if number else each.run)
        for number, part in enumerate(parts)
        for each in part.checkpoints
    ]
    return Results(
        checkpoints=numbered,
        left_out=[name for part in parts for name in part.left_out],
        names=parts[0].names,
        scores=np.concatenate([part.scores for part in parts]),
        truth={name: np.concatenate([part.truth[name] for part in parts]) for name in truths},
        labelled={name: np.concatenate([part.labelled[name] for part in parts]) for name in truths},
    )
