"""Dynamic time warping: the cheapest path between two sequences that neither halves nor doubles the tempo."""

from __future__ import annotations

from typing import Any

import numpy as np


def warp(costs: Any) -> tuple[Any, float]:
    """The path from the first corner of ``costs`` to the last that has the lowest sum.

    After each step that goes along one axis only comes one along both, so the path is nowhere steeper than 2 nor
    flatter than 1/2; steps along both count their cost twice, so a path is not the better for being short. It is
    the symmetric form P = 1 of Sakoe and Chiba, "Dynamic programming algorithm optimization for spoken word
    recognition", 1978, table I.

    Args:
        costs: ``(N, M)``, cost of every row with every column.

    Returns:
        The path, ``(L, 2)`` int64 rows and columns, and its mean cost: the sum over N + M. If one side is more
        than about twice as long there is no path: ``(0, 2)``, and infinity.

    Example:
        >>> import numpy as np
        >>> x, y = np.array([0.0, 1, 2, 2, 3]), np.array([0.0, 1, 1, 2, 3])
        >>> path, cost = warp(abs(x[:, None] - y))
        >>> path.tolist(), cost
        ([[0, 0], [1, 1], [1, 2], [2, 3], [3, 3], [4, 4]], 0.0)
    """
    costs = np.asarray(costs)
    rows, columns = costs.shape
    # One antidiagonal after another, each in one go; sums stand at row + 2, so that rows -2 and -1 are there.
    came_by = np.zeros((rows + columns - 1, rows), dtype=np.int8)
    third, second, first = (np.full(rows + 2, np.inf) for _ in range(3))  # antidiagonals before the current one
    second[1] = 0  # where paths start: row -1, column -1
    for diagonal in range(rows + columns - 1):
        i = np.arange(max(0, diagonal - columns + 1), min(rows, diagonal + 1))
        j = diagonal - i
        cost = costs[i, j]
        # What wraps round to index -1 is beside an infinite sum.
        sums = np.stack(
            [
                second[i + 1] + 2 * cost,
                third[i + 1] + 2 * costs[i, j - 1] + cost,
                third[i] + 2 * costs[i - 1, j] + cost,
            ]
        )
        came_by[diagonal, i] = sums.argmin(axis=0)
        third, second, first = second, first, np.full(rows + 2, np.inf)
        first[i + 2] = sums.min(axis=0)
    if not np.isfinite(first[-1]):
        return np.empty((0, 2), dtype=np.int64), float("inf")
    path = []
    i, j = rows - 1, columns - 1
    while i >= 0 and j >= 0:
        path.append((i, j))
        way = came_by[i + j, i]
        if way == 1:
            j -= 1
            path.append((i, j))
        elif way == 2:
            i -= 1
            path.append((i, j))
        i, j = i - 1, j - 1
    return np.array(path[::-1]), float(first[-1]) / (rows + columns)
