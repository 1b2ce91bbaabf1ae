"""Folds of a grouped two-fold split: two halves without a common group, each fitted once and scored once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_mi.hashing import mix

_TRAIN_SHARE = 0.75  # of the rows to fit; the rest are validation rows, which choose the probe's settings
_MAX_VALIDATION_ROWS = 4096  # more would not choose better


@dataclass(frozen=True)
class Fold:
    """One of the two folds over rows that :func:`order_by_group` has ordered.

    Attributes:
        fit: The half that the quantiser and the probe are fitted to.
        score: The other half, which is scored.
        num_train: Number of leading rows of ``fit`` to train on. The rest are validation rows, which choose the
            probe's settings; there are none if all rows of ``fit`` are one group.
    """

    fit: slice
    score: slice
    num_train: int


def folds(groups: Tensor) -> list[Fold]:
    """The two folds, for ``groups`` ``(N,)`` in the order of :func:`order_by_group`.

    Raises:
        ValueError: If there is one group only.

    Example:
        >>> import torch
        >>> first, second = folds(torch.tensor([3, 3, 1, 1, 8, 8, 5, 5]))
        >>> first
        Fold(fit=slice(0, 4, None), score=slice(4, 8, None), num_train=2)
        >>> second.fit == first.score, second.score == first.fit
        (True, True)
    """
    num_rows = groups.shape[0]
    middle = cut_near(groups, share=0.5)
    first, second = slice(0, middle), slice(middle, num_rows)
    return [Fold(first, second, _num_train(groups[first])), Fold(second, first, _num_train(groups[second]))]


def _num_train(groups: Tensor) -> int:
    num_rows = groups.shape[0]
    if not bool((groups != groups[0]).any()):
        return num_rows
    return cut_near(groups, share=max(_TRAIN_SHARE, 1 - _MAX_VALIDATION_ROWS / num_rows))


def order_by_group(groups: Tensor, seed: int) -> Tensor:
    """Row numbers ``(N,)`` int64 in the order of a hash of ``groups`` ``(N,)`` and ``seed``, groups together."""
    return torch.argsort(mix(groups, seed), stable=True)


def cut_near(groups: Tensor, share: float) -> int:
    """The boundary between two groups that is nearest to ``share`` of the rows.

    Args:
        groups: ``(N,)`` integers; rows of one group stand together.
        share: Between 0 and 1.

    Returns:
        The number of rows before the boundary, at least 1 and below N.

    Raises:
        ValueError: If there is one group only.

    Example:
        >>> import torch
        >>> cut_near(torch.tensor([7, 7, 7, 2, 5, 5]), share=0.5)
        3
    """
    starts = torch.nonzero(groups[1:] != groups[:-1])[:, 0] + 1
    if len(starts) == 0:
        raise ValueError(
            f"`groups` must hold at least 2 different groups, got 1 in {groups.shape[0]} rows. No group is "
            "both fitted and scored, so give finer `groups` or rows of more groups."
        )
    return int(starts[(starts - share * groups.shape[0]).abs().argmin()])
