"""Where k-means starts: candidates are drawn on the device in a few large steps, and thinned out on the host."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_mi.estimator.products import nearest

_ROWS_PER_CENTER = 16  # among which candidates are drawn,
_FEWEST_ROWS = 1024  # but never fewer than these
_CANDIDATES_PER_CENTER = 4
_ROUNDS = 5  # in which the candidates are drawn
_STARTS = 4  # of which the best is kept
_REFINEMENTS = 2  # iterations of each start on the candidates
_LADDER_TOP = 2.0**30  # the largest weight of a draw, as a whole number
_SAME = 1e-12  # of the sum of their squares: candidates that are no farther apart are the same


def seed_centers(points: Tensor, num_clusters: int, seed: int) -> Tensor:
    """Up to ``num_clusters`` centres for ``points`` ``(N, D)`` float32; fewer where fewer points differ.

    A few candidates for each centre are drawn among an even sample of the points, many at a time, each with a
    probability in proportion to its squared distance from those drawn before. They are weighted by how many of the
    sample are nearest to them, and k-means on them, from the best of several starts by k-means++, gives the
    centres. On a GPU this is some hundred kernels, whatever K; the loop over the centres runs on the host, over a
    few candidates, whose coordinates are all that leaves the device.

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
    generator = torch.Generator().manual_seed(seed)  # on the host: the same draws on every device
    candidates = _candidates(sample, _CANDIDATES_PER_CENTER * num_clusters, generator)
    counts = torch.bincount(nearest(sample, candidates)[1], minlength=len(candidates))
    return _thin_out(candidates.double().cpu(), counts.double().cpu(), num_clusters, generator).to(points)


def _candidates(points: Tensor, wanted: int, generator: torch.Generator) -> Tensor:
    """About ``wanted`` rows of ``points``, or all."""
    num_rows = points.shape[0]
    if num_rows <= wanted:
        return points
    last = num_rows - 1
    draws = torch.rand(_ROUNDS, -(-wanted // _ROUNDS), dtype=torch.float64, generator=generator).to(points.device)
    # What rounding leaves between equal points is no distance.
    squares = points.square().sum(dim=1) * (1 - 1e-6)
    distance = torch.full_like(squares, torch.inf)
    weights = torch.ones_like(squares)
    chosen = []
    for draw in draws:
        # Whole numbers, because their sums are the same in whatever order a GPU adds them.
        ladder = (weights * (_LADDER_TOP / weights.amax().clamp(min=1e-30))).to(torch.int64).cumsum(dim=0)
        rows = torch.searchsorted(ladder, (draw * ladder[-1]).to(torch.int64), right=True).clamp_(max=last)
        half_apart, _ = nearest(points, points[rows])
        weights = distance = torch.minimum(distance, (squares + 2 * half_apart).clamp_(min=0))
        chosen.append(rows)
    return points[torch.cat(chosen).unique()]


def _thin_out(candidates: Tensor, weights: Tensor, num_clusters: int, generator: torch.Generator) -> Tensor:
    """Weighted k-means of ``candidates`` ``(C, D)`` float64 on the host, from the best of several starts."""
    starts = [
        _refine(candidates, weights, candidates[rows])
        for rows in _spread_out(candidates, weights, num_clusters, generator)
    ]
    return min(starts, key=lambda start: start[1])[0]


def _spread_out(
    candidates: Tensor, weights: Tensor, num_clusters: int, generator: torch.Generator
) -> list[Tensor]:
    """K-means++ from several starts at once: the rows of each. Of several rows drawn each time the one is kept
    that leaves the smallest sum of squared distances.

    Source:
        Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007, the several rows in
        their conclusion.
    """
    num_rows, trials = candidates.shape[0], 2 + int(math.log(num_clusters))
    draws = torch.rand(num_clusters, _STARTS, trials, dtype=torch.float64, generator=generator)
    squares = candidates.square().sum(dim=1)
    distance = candidates.new_full((_STARTS, num_rows), torch.inf)
    mass = weights.expand(_STARTS, num_rows)
    chosen, totals = [], []
    each = torch.arange(_STARTS)
    for draw in draws:
        ladder = mass.cumsum(dim=1)
        rows = torch.searchsorted(ladder, draw * ladder[:, -1:], right=True).clamp_(max=num_rows - 1)
        both = squares + squares[rows, None]
        apart = torch.addmm(both.flatten(0, 1), candidates[rows.flatten()], candidates.T, alpha=-2).view_as(both)
        apart = torch.where(apart > _SAME * both, apart, 0)
        apart = torch.minimum(apart, distance[:, None])
        best = (apart @ weights).argmin(dim=1)
        distance = apart[each, best]
        mass = distance * weights
        chosen.append(rows[each, best])
        totals.append(ladder[:, -1])
    alive = torch.stack(totals, dim=1) > 0
    return [rows[kept].unique() for rows, kept in zip(torch.stack(chosen, dim=1), alive, strict=True)]


def _refine(candidates: Tensor, weights: Tensor, centers: Tensor) -> tuple[Tensor, float]:
    """A few of Lloyd's iterations, and the weighted sum of squared distances before the last."""
    cost = math.inf
    for _ in range(_REFINEMENTS):
        apart, member_of = torch.cdist(candidates, centers).min(dim=1)
        cost = float((apart.square() * weights).sum())
        mass = centers.new_zeros(len(centers)).index_add_(0, member_of, weights)
        sums = torch.zeros_like(centers).index_add_(0, member_of, candidates * weights[:, None])
        centers = torch.where(mass[:, None] > 0, sums / mass.clamp(min=1e-30)[:, None], centers)
    return centers, cost
