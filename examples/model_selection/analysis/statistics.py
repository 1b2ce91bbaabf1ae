"""Rank correlation, regret and early stopping, with bootstrap intervals over runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Floats = NDArray[np.float64]
Statistic = Callable[[Floats, Floats], Any]


def spearman(scores: Floats, accuracy: Floats) -> Floats:
    """Spearman's rank correlation of each column of ``scores`` ``(N, S)`` with ``accuracy`` ``(N,)``: ``(S,)``.

    It is 0 if either is constant, because such a score ranks nothing.

    Example:
        >>> spearman(np.array([[1.0, 5.0], [2.0, 4.0], [3.0, 3.0]]), np.array([0.1, 0.2, 0.9])).tolist()
        [1.0, -1.0]
    """
    x = rankdata(scores, axis=0) - (len(scores) + 1) / 2
    y = rankdata(accuracy) - (len(accuracy) + 1) / 2
    norm = np.sqrt(np.square(x).sum(axis=0) * np.square(y).sum())
    product = (x * y[:, None]).sum(axis=0)
    return np.divide(product, norm, out=np.zeros_like(norm), where=norm > 0)


def partial_spearman(scores: Floats, accuracy: Floats, other: Floats) -> Floats:
    """Partial :func:`spearman` of ``scores`` ``(N, S)`` with ``accuracy`` ``(N,)``, with ``other`` ``(N,)`` fixed.

    Example:
        >>> other = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
        >>> accuracy = np.array([1.0, 3.0, 2.0, 5.0, 4.0])
        >>> partial_spearman(np.stack([other, accuracy], axis=1), accuracy, other).round(6).tolist()
        [0.0, 1.0]
    """
    with_accuracy, with_other = spearman(scores, accuracy), spearman(scores, other)
    between = spearman(other[:, None], accuracy)[0]
    norm = np.sqrt(np.clip(1 - with_other**2, 0, None) * max(0.0, 1 - between**2))
    product = with_accuracy - with_other * between
    return np.divide(product, norm, out=np.zeros_like(norm), where=norm > 1e-9)


def kendall(scores: Floats, accuracy: Floats) -> Floats:
    """Kendall's tau-b; arguments and result as of :func:`spearman`.

    Example:
        >>> kendall(np.array([[1.0], [3.0], [2.0]]), np.array([0.1, 0.2, 0.9])).round(3).tolist()
        [0.333]
    """
    y = np.sign(accuracy[:, None] - accuracy[None])
    values = []
    for column in scores.T:
        # Not a difference, which is not a number where both are infinite.
        x = (column[:, None] > column[None]).astype(float) - (column[:, None] < column[None])
        norm = np.sqrt(np.square(x).sum() * np.square(y).sum())
        values.append((x * y).sum() / norm if norm else 0.0)
    return np.array(values)


def regret(scores: Floats, accuracy: Floats) -> Floats:
    """Best ``accuracy`` ``(N,)`` minus that of the row that each column of ``scores`` ``(N, S)`` ranks first.

    If several rows are ranked first, the mean over them is taken.
    """
    first = scores == scores.max(axis=0)
    return accuracy.max() - (first * accuracy[:, None]).sum(axis=0) / first.sum(axis=0)


@dataclass(frozen=True)
class Zoo:
    """Scores and accuracies of N checkpoints.

    Attributes:
        runs: ``(N,)`` numbers of the runs.
        objectives: ``(N,)`` their objectives.
        steps: ``(N,)`` optimiser steps.
        normal: ``(N,)`` bool, whether the run is not degenerate on purpose.
        scores: ``(N, S)``, higher is better.
        accuracy: ``(N,)`` downstream accuracy.
    """

    runs: NDArray[Any]
    objectives: NDArray[Any]
    steps: NDArray[Any]
    normal: NDArray[np.bool_]
    scores: Floats
    accuracy: Floats

    def of_rows(self, rows: NDArray[Any]) -> Zoo:
        """Some of the checkpoints."""
        parts = (self.runs, self.objectives, self.steps, self.normal, self.scores, self.accuracy)
        return Zoo(*(part[rows] for part in parts))

    def of_runs(self, runs: Sequence[int] | NDArray[Any]) -> Zoo:
        """The checkpoints of some runs, repeated as often as the run is."""
        return self.of_rows(np.concatenate([np.flatnonzero(self.runs == run) for run in runs]))

    def value(self, statistic: Statistic) -> Floats:
        """A statistic of all checkpoints, ``(S,)``."""
        return np.asarray(statistic(self.scores, self.accuracy))

    def within_objectives(self, statistic: Statistic) -> Floats:
        """Mean over the objectives of the statistic within each, ``(S,)``."""
        kinds = [self.of_rows(self.objectives == kind) for kind in np.unique(self.objectives)]
        values = [each.value(statistic) for each in kinds if len(each.accuracy) > 2]
        return np.mean(values, axis=0) if values else np.full(self.scores.shape[1], np.nan)

    def bootstrap(self, statistic: Callable[[Zoo], Floats], times: int, seed: int = 0) -> Floats:
        """Cluster bootstrap: the statistic of zoos drawn run by run, with replacement, ``(times, S)``.

        Checkpoints of one run are not independent, so whole runs are drawn.
        """
        rng = np.random.default_rng(seed)
        names = np.unique(self.runs)
        return np.stack([statistic(self.of_runs(rng.choice(names, len(names)))) for _ in range(times)])

    def within_runs(self, statistic: Statistic) -> Floats:
        """Mean over the normal runs of the statistic within each, ``(S,)``."""
        inside = [self.of_rows(self.runs == run) for run in np.unique(self.runs[self.normal])]
        values = [each.value(statistic) for each in inside if len(each.accuracy) > 2]
        return np.mean(values, axis=0) if values else np.full(self.scores.shape[1], np.nan)

    def split_runs(self, rng: np.random.Generator) -> tuple[Zoo, Zoo]:
        """Split the runs at random into two halves, stratified by objective and by normal or degenerate.

        Raises:
            ValueError: If there is one run only.
        """
        if len(np.unique(self.runs)) < 2:
            raise ValueError(
                "runs: got one, expected at least two, of which one half chooses and the other is tested"
            )
        order = np.concatenate([rng.permutation(runs) for runs in self._strata()])
        turn = int(rng.integers(2))
        return self.of_runs(order[turn::2]), self.of_runs(order[1 - turn :: 2])

    def _strata(self) -> Iterator[NDArray[Any]]:
        for kind in np.unique(self.objectives):
            for normal in (True, False):
                runs = np.unique(self.runs[(self.objectives == kind) & (self.normal == normal)])
                if len(runs):
                    yield runs

    def stopping_regret(self, patience: int) -> Floats:
        """Accuracy that early stopping loses: of the best checkpoint minus that of the kept one, ``(S,)``.

        The mean over the normal runs.
        """
        losses = []
        for run in np.unique(self.runs[self.normal]):
            of_run = self.of_rows(self.runs == run)
            of_run = of_run.of_rows(np.argsort(of_run.steps))
            if len(of_run.accuracy) > 1:
                kept = [early_stopping(column, patience)[0] for column in of_run.scores.T]
                losses.append(of_run.accuracy.max() - of_run.accuracy[kept])
        return np.mean(losses, axis=0) if losses else np.full(self.scores.shape[1], np.nan)


def early_stopping(values: Floats, patience: int) -> tuple[int, int]:
    """Early stopping on ``values`` ``(T,)``, in order of time: the index that is kept, and the one it stops at.

    It stops after ``patience`` values in a row that are no higher than the best before, or at the last one.

    Example:
        >>> early_stopping(np.array([1.0, 2.0, 1.5, 1.8, 9.0]), patience=2)
        (1, 3)
    """
    best = 0
    for now in range(1, len(values)):
        if values[now] > values[best]:
            best = now
        elif now - best >= patience:
            return best, now
    return best, len(values) - 1


def choose(values: Floats, columns: Sequence[int]) -> int:
    """The column of ``columns`` with the highest of ``values`` ``(S,)``."""
    return columns[int(values[list(columns)].argmax())]


def interval(draws: Floats, share: float = 0.95) -> tuple[Floats, Floats]:
    """Percentile interval of bootstrap draws ``(times, ...)``."""
    tail = 100 * (1 - share) / 2
    low, high = np.percentile(draws, [tail, 100 - tail], axis=0)
    return low, high
