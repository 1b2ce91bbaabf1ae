"""Two-fold cross-fitting: every row is scored once, by parts that have not seen its group."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_mi.estimator.checks import check_finite, check_integer_vector, check_seed
from lightning_mi.estimator.estimate import MIEstimate
from lightning_mi.estimator.folds import Fold, folds, order_by_group
from lightning_mi.estimator.group_scores import GroupScores


@dataclass(frozen=True)
class CrossFit:
    """Scores of all rows, in the order of :func:`order_rows`.

    Attributes:
        surprisal: ``(N,)`` float64, -log of the share of each row's class in the scored rows of its half, in nats.
        scores: ``(N,)`` float64, what the fitted probe gives each row, in nats.
        groups: ``(N,)`` int64.
        middle: The first row of the second half.
        num_classes: K.
        active_classes: Number of classes that occur among the scored rows, the mean of both halves, rounded.
    """

    surprisal: Tensor
    scores: Tensor
    groups: Tensor
    middle: int
    num_classes: int
    active_classes: int

    def estimate(
        self, bound: float, entropy: float, cross_entropy: float, scores: GroupScores, stderr: float
    ) -> MIEstimate:
        """The estimate with the given numbers, in nats, and the counts of this cross-fit."""
        return MIEstimate(
            bound=bound,
            stderr=stderr,
            entropy=entropy,
            cross_entropy=cross_entropy,
            ceiling=math.log(self.num_classes),
            num_clusters=self.num_classes,
            active_clusters=self.active_classes,
            num_pairs=len(self.scores),
            num_groups=len(scores.groups),
            scores=scores,
        )


def order_rows(name: str, z: Tensor, groups: Tensor | None, seed: int) -> tuple[Tensor, Tensor]:
    """Check the rows and order them as they are cut into halves.

    Args:
        name: Name of ``z`` in messages.
        z: ``(N, D)`` embeddings.
        groups: ``(N,)`` integers; ``None``: each row is its own group.
        seed: Seed of the order.

    Returns:
        The order of the rows ``(N,)`` int64, and their groups in that order ``(N,)`` int64.

    Raises:
        TypeError: If ``groups`` is not integer.
        ValueError: If a value is not finite, N differs, or there are fewer than 2 rows.
    """
    num_rows = z.shape[0]
    check_finite(name, z)
    check_seed(seed)
    if groups is None:
        groups = torch.arange(num_rows, device=z.device)
    check_integer_vector("groups", groups, num_rows)
    groups = groups.to(z.device, torch.int64)
    if num_rows < 2:
        raise ValueError(f"`{name}` must have at least 2 rows, to fit on and to score, got {num_rows}.")
    order = order_by_group(groups, seed)
    return order, groups[order]


def cross_fit(
    groups: Tensor, num_classes: int, score_fold: Callable[[Fold, int], tuple[Tensor, Tensor]]
) -> CrossFit:
    """Fit on each half and score the other.

    Args:
        groups: ``(N,)`` integers, rows of one group stand together.
        num_classes: K.
        score_fold: Fits to ``fold.fit`` and scores ``fold.score``, given the fold and its number, 0 or 1. Returns
            the classes of the scored rows ``(M,)`` int64 below K, and their scores ``(M,)`` in nats.

    Returns:
        Surprisal and score of each row, from which a bound is made.

    Raises:
        ValueError: If there is one group only.

    Source:
        Schick, "On asymptotically efficient estimation in semiparametric models", Annals of Statistics 1986;
        Chernozhukov et al., "Double/debiased machine learning", Econometrics Journal 2018, for the name.

    Example:
        >>> import torch
        >>> classes = torch.tensor([0, 1, 0, 1])
        >>> found = cross_fit(torch.arange(4), 2, lambda fold, number: (classes[fold.score], torch.zeros(2)))
        >>> found.surprisal.exp().tolist(), found.active_classes
        ([2.0, 2.0, 2.0, 2.0], 2)
    """
    both = folds(groups)
    surprisal, scores = torch.empty(2, len(groups), dtype=torch.float64, device=groups.device)
    active = []
    for number, fold in enumerate(both):
        classes, fold_scores = score_fold(fold, number)
        scores[fold.score] = fold_scores.double()
        counts = torch.bincount(classes, minlength=num_classes)
        surprisal[fold.score] = -(counts.double() / len(classes)).log()[classes]
        active.append((counts > 0).sum())
    return CrossFit(
        surprisal=surprisal,
        scores=scores,
        groups=groups,
        middle=both[0].fit.stop,
        num_classes=num_classes,
        active_classes=round(float(torch.stack(active).double().mean())),
    )


def check_clusters(num_clusters: int, fold: Fold, num_rows: int) -> None:
    """Raise unless k-means has at least as many rows to fit as clusters."""
    num_fit = fold.fit.stop - fold.fit.start
    if num_clusters > num_fit:
        raise ValueError(
            f"`num_clusters` must be at most the number of pairs that the k-means is fitted to, got "
            f"{num_clusters} clusters for {num_fit} of {num_rows} pairs. Lower it or add pairs."
        )
