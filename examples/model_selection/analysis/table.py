"""Table of results of one zoo or of several: a row a checkpoint, its accuracies and its scores."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from lightning_mi.examples.model_selection.analysis.statistics import Floats, Zoo
from lightning_mi.examples.model_selection.corpora.base import TASKS
from lightning_mi.examples.model_selection.zoo import trained

LOSS = "validation loss"
CHECKPOINTS = "checkpoints.csv"
_WHO = ("run", "step", "objective", "degenerate")
_LABELLED = "labelled "  # before the name of a task


@dataclass(frozen=True)
class Scored:
    """One checkpoint.

    Attributes:
        run: Name of its run.
        step: Optimiser steps.
        objective: Objective of the run.
        degenerate: What is wrong with the run on purpose; empty for a normal one.
    """

    run: str
    step: int
    objective: str
    degenerate: str

    @property
    def name(self) -> str:
        """Name of the checkpoint."""
        return f"{self.run}-{self.step:06d}"


@dataclass(frozen=True)
class Results:
    """Scores and accuracies of N checkpoints.

    Attributes:
        checkpoints: Those that have finite embeddings.
        left_out: Names of the others.
        names: Names of the scores, the negated validation loss last.
        scores: ``(N, S)``; higher is better.
        accuracy: For each task ``(N,)`` downstream accuracies.
        labelled: For each task ``(N,)`` labelled bounds in nats.
    """

    checkpoints: Sequence[Scored]
    left_out: Sequence[str]
    names: Sequence[str]
    scores: Floats
    accuracy: Mapping[str, Floats]
    labelled: Mapping[str, Floats]

    def zoo(self, task: str) -> Zoo:
        """The scores beside the accuracy for one task."""
        runs = [each.run for each in self.checkpoints]
        return Zoo(
            runs=np.array([runs.index(name) for name in runs]),
            objectives=np.array([each.objective for each in self.checkpoints]),
            steps=np.array([each.step for each in self.checkpoints]),
            normal=np.array([not each.degenerate for each in self.checkpoints]),
            scores=self.scores,
            accuracy=self.accuracy[task],
        )

    def with_scores(self, names: Sequence[str]) -> Results:
        """Some of the scores, in that order."""
        columns = [self.names.index(name) for name in names]
        return replace(self, names=list(names), scores=self.scores[:, columns])


def load(config: DictConfig) -> Results:
    """Read what score.py has written for the zoo of ``config``.

    Raises:
        FileNotFoundError: If no checkpoint is scored.
    """
    kept, left_out, rows = [], [], []
    for checkpoint in trained(config):
        paths = [Path(config.folder) / kind / f"{checkpoint.name}.json" for kind in ("accuracies", "scores")]
        if not all(path.exists() for path in paths):
            continue
        accuracies, scores = (json.loads(path.read_text(encoding="utf-8")) for path in paths)
        if scores["finite"]:
            run = checkpoint.run
            kept.append(Scored(run.name, checkpoint.step, run.objective, run.degenerate))
            rows.append((accuracies, scores))
        else:
            left_out.append(checkpoint.name)
    if not rows:
        raise FileNotFoundError(f"folder={config.folder}: nothing is scored; run score.py with the same zoo first")
    names = [name for name in rows[0][1]["scores"] if all(name in scores["scores"] for _, scores in rows)]
    table = [[scores["scores"][name]["value"] for name in names] for _, scores in rows]
    losses = np.array([-accuracies["validation_loss"] for accuracies, _ in rows])
    tasks = [name for name in TASKS if all(name in accuracies for accuracies, _ in rows)]
    return Results(
        checkpoints=kept,
        left_out=left_out,
        names=[*names, LOSS],
        scores=np.column_stack([np.array(table), np.nan_to_num(losses, nan=-math.inf)]),
        accuracy={task: np.array([accuracies[task] for accuracies, _ in rows]) for task in tasks},
        labelled={task: np.array([scores["labelled"][task]["value"] for _, scores in rows]) for task in tasks},
    )


def write(results: Results, path: Path) -> None:
    """Write every value as CSV, for :func:`read`."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            [*_WHO, *results.accuracy, *(_LABELLED + name for name in results.labelled), *results.names]
        )
        columns = [*results.accuracy.values(), *results.labelled.values(), *results.scores.T]
        for at, each in enumerate(results.checkpoints):
            values = [f"{column[at]:.6g}" for column in columns]
            writer.writerow([each.run, each.step, each.objective, each.degenerate, *values])


def read(path: Path) -> Results:
    """Read what :func:`write` has written.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: not there; run report.py on that zoo first")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    fields = list(rows[0])
    tasks = [name for name in fields if _LABELLED + name in fields]
    known = {*_WHO, *tasks, *(_LABELLED + name for name in tasks)}
    names = [name for name in fields if name not in known]

    def column(name: str) -> Floats:
        return np.array([float(row[name]) for row in rows])

    return Results(
        checkpoints=[Scored(row["run"], int(row["step"]), row["objective"], row["degenerate"]) for row in rows],
        left_out=[],
        names=names,
        scores=np.stack([column(name) for name in names], axis=1),
        accuracy={name: column(name) for name in tasks},
        labelled={name: column(_LABELLED + name) for name in tasks},
    )


def in_common(parts: Sequence[Results]) -> list[Results]:
    """The zoos with the scores that all of them have, in the order of the first."""
    names = [name for name in parts[0].names if all(name in part.names for part in parts)]
    return [part.with_scores(names) for part in parts]


def together(parts: Sequence[Results]) -> Results:
    """Several zoos as one, with the scores and tasks that all of them have.

    Runs of one name in two zoos are two runs: names of all but the first zoo get the zoo's number.
    """
    parts = in_common(parts)
    tasks = [name for name in parts[0].accuracy if all(name in part.accuracy for part in parts)]
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
        accuracy={name: np.concatenate([part.accuracy[name] for part in parts]) for name in tasks},
        labelled={name: np.concatenate([part.labelled[name] for part in parts]) for name in tasks},
    )


def read_all(config: DictConfig) -> list[Results]:
    """The zoo of ``config`` and those of ``report.together_with``, with the scores that all of them have."""
    others = [read(Path(folder) / "report" / CHECKPOINTS) for folder in config.report.together_with]
    return in_common([load(config), *others])
