"""k-means|| initialisation: candidates are drawn on the device in a few large steps and reduced on the host."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_mi.estimator.linalg import nearest

_ROWS_PER_CENTER = 16  # of the sample from which candidates are drawn
_FEWEST_ROWS = 1024  # of that sample, however few the centres
_CANDIDATES_PER_CENTER = 4  # half as many above _MANY_CENTERS
_MANY_CENTERS = 512
_ROUNDS = 5  # in which the candidates are drawn
_STARTS = 4  # of which the best is kept; fewer above 128 centres
_REFINEMENTS = 2  # Lloyd's iterations of each start on the candidates
_LADDER_TOP = 2.0**30  # the largest weight of a draw, as an integer
_SAME = 1e-6  # relative to the sum of both squared norms: a smaller squared distance is rounding error


def seed_centers(points: Tensor, num_clusters: int, seed: int) -> Tensor:
    """Up to ``num_clusters`` centres for ``points`` ``(N, D)`` float32; fewer if fewer points differ.

    A few candidates for each centre are drawn from an even sample of the points, many at a time, with probability
    proportional to the squared distance from those drawn before. A candidate's weight is the number of sampled
    points nearest to it. Weighted k-means on the candidates, from the best of several k-means++ starts, gives the
    centres. On a GPU this takes about a hundred kernels for any K: the loop over the centres runs on the host, and
    only the distances between the candidates leave the device.

    Returns:
        ``(K', D)`` float32 on the device of ``points``, K' at most ``num_clusters``.

    Source:
        Bahmani, Moseley, Vattani, Kumar, Vassilvitskii, "Scalable k-means++", PVLDB 2012.

    Example:
        >>> import torch
        >>> points = torch.tensor([[0.0], [1.0], [8.0], [9.0]])
        >>> sorted(seed_centers(points, 2, seed=0)[:, 0].tolist())
        [0.5, 8.5]
    """
    sample = points[:: max(1, points.shape[0] // max(_FEWEST_ROWS, _ROWS_PER_CENTER * num_clusters))]
    per_center = _CANDIDATES_PER_CENTER if num_clusters <= _MANY_CENTERS else _CANDIDATES_PER_CENTER // 2
    generator = torch.Generator().manual_seed(seed)  # on the host: the same draws on every device
    candidates = _candidates(sample, per_center * num_clusters, generator)
    weights = torch.bincount(nearest(sample, candidates)[1], minlength=len(candidates)).to(candidates.dtype)
    squares = candidates.square().sum(dim=1)
    both = squares[:, None] + squares
    apart = torch.addmm(both, candidates, candidates.T, alpha=-2)
    apart = torch.where(apart > _SAME * both, apart, 0)
    trials = 2 + int(math.log(num_clusters))
    starts = max(1, min(_STARTS, _MANY_CENTERS // num_clusters))
    draws = torch.rand(num_clusters, starts, trials, dtype=torch.float64, generator=generator)
    chosen = _spread_out(apart.cpu().numpy(), weights.cpu().numpy(), draws.numpy())
    refined = [
        _refine(candidates, weights, candidates[torch.from_numpy(rows).to(points.device)]) for rows in chosen
    ]
    best = int(torch.stack([cost for _, cost in refined]).argmin())
    return refined[best][0]


def _candidates(points: Tensor, wanted: int, generator: torch.Generator) -> Tensor:
    """About ``wanted`` rows of ``points``, or all."""
    num_rows = points.shape[0]
    if num_rows <= wanted:
        return points
    last = num_rows - 1
    draws = torch.rand(_ROUNDS, -(-wanted // _ROUNDS), dtype=torch.float64, generator=generator).to(points.device)
    # Lowered by _SAME, so that equal points have distance 0 in spite of rounding.
    squares = points.square().sum(dim=1) * (1 - _SAME)
    distance = torch.full_like(squares, torch.inf)
    weights = torch.ones_like(squares)
    chosen = []
    for draw in draws:
        # Integers, whose sums do not depend on the order in which a GPU adds them.
        ladder = (weights * (_LADDER_TOP / weights.amax().clamp(min=1e-30))).to(torch.int64).cumsum(dim=0)
        rows = torch.searchsorted(ladder, (draw * ladder[-1]).to(torch.int64), right=True).clamp_(max=last)
        half_apart, _ = nearest(points, points[rows])
        weights = distance = torch.minimum(distance, (squares + 2 * half_apart).clamp_(min=0))
        chosen.append(rows)
    return points[torch.cat(chosen).unique()]


def _spread_out(
    apart: NDArray[np.float32], weights: NDArray[np.float32], draws: NDArray[np.float64]
) -> list[NDArray[np.int64]]:
    """Greedy weighted k-means++ from several starts at once: the chosen rows of each.

    Each step draws several rows and keeps the one that leaves the smallest sum of squared distances. In numpy,
    which has less overhead for each of the many small operations.

    Args:
        apart: ``(C, C)``, squared distances of the candidates.
        weights: ``(C,)``.
        draws: ``(K, S, M)`` uniform numbers, for M rows at each of K steps of S starts.

    Source:
        Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007; the greedy
        variant in its conclusion.
    """
    num_rows, (num_clusters, num_starts, _) = len(weights), draws.shape
    each = np.arange(num_starts)
    distance = np.full((num_starts, num_rows), np.float32(np.inf))
    mass = np.broadcast_to(weights, distance.shape)
    chosen = np.empty((num_clusters, num_starts), dtype=np.int64)
    alive = np.empty((num_clusters, num_starts), dtype=bool)
    for number, draw in enumerate(draws):
        ladder = mass.cumsum(axis=1, dtype=np.float64)
        total = ladder[:, -1:]
        alive[number] = total[:, 0] > 0
        # One ladder for all starts, each a unit long.
        ladder = ladder / np.where(total > 0, total, 1) + each[:, None]
        rows = ladder.ravel().searchsorted((draw + each[:, None]).ravel(), side="right") % num_rows
        nearer = np.minimum(apart[rows].reshape(*draw.shape, num_rows), distance[:, None])
        best = (nearer @ weights).argmin(axis=1)
        distance = nearer[each, best]
        mass = distance * weights
        chosen[number] = rows.reshape(draw.shape)[each, best]
    return [np.unique(rows[kept]) for rows, kept in zip(chosen.T, alive.T, strict=True)]


def _refine(candidates: Tensor, weights: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """Centres after a few of Lloyd's iterations, and the weighted sum of squared distances, up to a factor and a
    constant, before the last."""
    cost = weights.new_zeros(())
    names = torch.arange(len(centers), device=centers.device)
    for _ in range(_REFINEMENTS):
        half_apart, member_of = nearest(candidates, centers)
        cost = half_apart @ weights
        # No scatter, which is not deterministic on a GPU.
        hits = (member_of[:, None] == names) * weights[:, None]
        mass = hits.sum(dim=0)[:, None]
        centers = torch.where(mass > 0, hits.T @ candidates / mass.clamp(min=1e-30), centers)
    return centers, cost
