"""How well a score ranks models: rank correlations, intervals over runs, regret, early stopping."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Floats = NDArray[np.float64]
Statistic = Callable[[Floats, Floats], Any]


def spearman(scores: Floats, truth: Floats) -> Floats:
    """Spearman's rank correlation of each column of ``scores`` ``(N, S)`` with ``truth`` ``(N,)``: ``(S,)``; 0
    where either is constant: such a score ranks nothing.

    Example:
        >>> spearman(np.array([[1.0, 5.0], [2.0, 4.0], [3.0, 3.0]]), np.array([0.1, 0.2, 0.9])).tolist()
        [1.0, -1.0]
    """
    x = rankdata(scores, axis=0) - (len(scores) + 1) / 2
    y = rankdata(truth) - (len(truth) + 1) / 2
    norm = np.sqrt(np.square(x).sum(axis=0) * np.square(y).sum())
    product = (x * y[:, None]).sum(axis=0)
    return np.divide(product, norm, out=np.zeros_like(norm), where=norm > 0)


def partial_spearman(scores: Floats, truth: Floats, other: Floats) -> Floats:
    """:func:`spearman` of ``scores`` ``(N, S)`` with ``truth`` ``(N,)`` when the ranks of ``other`` ``(N,)`` are
    held fixed, linearly: what a score says of one truth that is not said by another.

    Example:
        >>> other = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
        >>> truth = np.array([1.0, 3.0, 2.0, 5.0, 4.0])
        >>> partial_spearman(np.stack([other, truth], axis=1), truth, other).round(6).tolist()
        [0.0, 1.0]
    """
    with_truth, with_other = spearman(scores, truth), spearman(scores, other)
    between = spearman(other[:, None], truth)[0]
    norm = np.sqrt(np.clip(1 - with_other**2, 0, None) * max(0.0, 1 - between**2))
    product = with_truth - with_other * between
    return np.divide(product, norm, out=np.zeros_like(norm), where=norm > 1e-9)


def kendall(scores: Floats, truth: Floats) -> Floats:
    """Kendall's tau-b, as :func:`spearman`.

    Example:
        >>> kendall(np.array([[1.0], [3.0], [2.0]]), np.array([0.1, 0.2, 0.9])).round(3).tolist()
        [0.333]
    """
    y = np.sign(truth[:, None] - truth[None])
    values = []
    for column in scores.T:
        # Not a difference, which is not a number where both are infinite.
        x = (column[:, None] > column[None]).astype(float) - (column[:, None] < column[None])
        norm = np.sqrt(np.square(x).sum() * np.square(y).sum())
        values.append((x * y).sum() / norm if norm else 0.0)
    return np.array(values)


def regret(scores: Floats, truth: Floats) -> Floats:
    """By how much the best of ``truth`` ``(N,)`` is above that of the row that each column of ``scores``
    ``(N, S)`` ranks first; of rows that are equal the mean."""
    first = scores == scores.max(axis=0)
    return truth.max() - (first * truth[:, None]).sum(axis=0) / first.sum(axis=0)


@dataclass(frozen=True)
class Zoo:
    """Scores and truth of N checkpoints.

    Attributes:
        runs: ``(N,)`` numbers of the runs.
        objectives: ``(N,)`` their objectives.
        steps: ``(N,)`` optimiser steps.
        honest: ``(N,)`` bool, whether the run is not bad on purpose.
        scores: ``(N, S)``, higher is better.
        truth: ``(N,)`` accuracy.
    """

    runs: NDArray[Any]
    objectives: NDArray[Any]
    steps: NDArray[Any]
    honest: NDArray[np.bool_]
    scores: Floats
    truth: Floats

    def of_rows(self, rows: NDArray[Any]) -> Zoo:
        """Some of the checkpoints."""
        parts = (self.runs, self.objectives, self.steps, self.honest, self.scores, self.truth)
        return Zoo(*(part[rows] for part in parts))

    def of_runs(self, runs: Sequence[int] | NDArray[Any]) -> Zoo:
        """The checkpoints of these runs, those of a run as often as it is named."""
        return self.of_rows(np.concatenate([np.flatnonzero(self.runs == run) for run in runs]))

    def value(self, statistic: Statistic) -> Floats:
        """A statistic of all checkpoints, ``(S,)``."""
        return np.asarray(statistic(self.scores, self.truth))

    def within_objectives(self, statistic: Statistic) -> Floats:
        """Its mean over the objectives, each by itself, ``(S,)``."""
        kinds = [self.of_rows(self.objectives == kind) for kind in np.unique(self.objectives)]
        values = [each.value(statistic) for each in kinds if len(each.truth) > 2]
        return np.mean(values, axis=0) if values else np.full(self.scores.shape[1], np.nan)

    def bootstrap(self, statistic: Callable[[Zoo], Floats], times: int, seed: int = 0) -> Floats:
        """The statistic of zoos that are drawn run by run, with replacement, ``(times, S)``: checkpoints of one
        run are not independent."""
        rng = np.random.default_rng(seed)
        names = np.unique(self.runs)
        return np.stack([statistic(self.of_runs(rng.choice(names, len(names)))) for _ in range(times)])

    def halves(self, rng: np.random.Generator) -> tuple[Zoo, Zoo]:
        """Two halves of the runs at random, as many in each, with half of each objective's honest and half of its
        bad ones in each, as far as their numbers are even.

        Raises:
            ValueError: If there is one run only.
        """
        if len(np.unique(self.runs)) < 2:
            raise ValueError(
                "runs: got one, expected at least two, of which one half chooses and the other judges"
            )
        order = np.concatenate([rng.permutation(runs) for runs in self._strata()])
        turn = int(rng.integers(2))
        return self.of_runs(order[turn::2]), self.of_runs(order[1 - turn :: 2])

    def _strata(self) -> Iterator[NDArray[Any]]:
        for kind in np.unique(self.objectives):
            for honest in (True, False):
                runs = np.unique(self.runs[(self.objectives == kind) & (self.honest == honest)])
                if len(runs):
                    yield runs

    def stopping_regret(self, patience: int) -> Floats:
        """Early stopping inside of each honest run: by how much its best checkpoint's truth is above that of the
        one kept, the mean over the runs, ``(S,)``."""
        losses = []
        for run in np.unique(self.runs[self.honest]):
            of_run = self.of_rows(self.runs == run)
            of_run = of_run.of_rows(np.argsort(of_run.steps))
            if len(of_run.truth) > 1:
                kept = [stop(column, patience)[0] for column in of_run.scores.T]
                losses.append(of_run.truth.max() - of_run.truth[kept])
        return np.mean(losses, axis=0) if losses else np.full(self.scores.shape[1], np.nan)


def stop(values: Floats, patience: int) -> tuple[int, int]:
    """Which of ``values`` ``(T,)``, in order of time, early stopping keeps, and at which it stops: the last one,
    or the first after ``patience`` in a row that were no higher than the best before.

    Example:
        >>> stop(np.array([1.0, 2.0, 1.5, 1.8, 9.0]), patience=2)
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
    """The column of ``columns`` with the highest of ``values`` ``(S,)``, which one half of the runs gave."""
    return columns[int(values[list(columns)].argmax())]


def interval(draws: Floats, share: float = 0.95) -> tuple[Floats, Floats]:
    """Percentile interval of bootstrap draws ``(times, ...)``."""
    tail = 100 * (1 - share) / 2
    low, high = np.percentile(draws, [tail, 100 - tail], axis=0)
    return low, high
