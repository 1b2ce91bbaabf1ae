"""Which rows fit and which rows score: two halves that never share a group."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_mi.hashing import mix


def order_by_group(groups: Tensor, seed: int) -> Tensor:
    """Rows ``(N,)`` in an order that depends on the group numbers and the seed alone, groups together."""
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
            f"`groups` must hold at least 2 different groups, got 1 in {groups.shape[0]} rows: nothing "
            "would be left to score what was fitted."
        )
    return int(starts[(starts - share * groups.shape[0]).abs().argmin()])
