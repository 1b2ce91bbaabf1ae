"""Copies of pairs: rows that are equal bit for bit, which a bootstrap or an oversampler makes, are one group."""

from __future__ import annotations

import torch
from torch import Tensor

_LEAST_SHARE = 1 / 16  # of different rows among all; below it, equal rows are values of a discrete embedding


def group_copies(z_a: Tensor, z_b: Tensor) -> Tensor:
    """A group for each row, the same for rows that are copies of one pair.

    Equal rows are taken for copies if every value of ``z_a`` comes with one value of ``z_b`` and the other way
    round, and if there are not too few values. Otherwise they are values of a discrete embedding, such as a
    one-hot code, and each row is its own group.

    Args:
        z_a: ``(N, D)``.
        z_b: ``(N, D')``.

    Returns:
        ``(N,)`` int64, the first row of each group.

    Example:
        >>> import torch
        >>> z = torch.tensor([[0.5], [0.25], [0.5]])
        >>> group_copies(z, -z).tolist()
        [0, 1, 0]
    """
    num_rows = z_a.shape[0]
    rows = torch.arange(num_rows, device=z_a.device)
    if num_rows < 2 or _differ_at_once(z_a) or _differ_at_once(z_b):
        return rows  # nearly always
    a, b = _numbers(z_a), _numbers(z_b)
    pairs = _numbers(torch.stack([a, b], dim=1))
    num_pairs = int(pairs.amax()) + 1
    too_few = num_pairs < max(2, _LEAST_SHARE * num_rows)  # 1 is a collapsed model, whose bound is 0
    if too_few or not int(a.amax()) + 1 == int(b.amax()) + 1 == num_pairs:
        return rows
    return torch.full((num_pairs,), num_rows, device=rows.device).scatter_reduce_(0, pairs, rows, "amin")[pairs]


def _differ_at_once(z: Tensor) -> bool:
    """Whether all rows differ in the first and last coordinate, as the bits of one integer."""
    some = z[:, [0, -1]].float().contiguous().view(torch.int64)
    return len(some.unique()) == len(z)


def _numbers(z: Tensor) -> Tensor:
    """Equal rows of ``z`` get the same number, from 0."""
    return z.unique(dim=0, return_inverse=True)[1]
