"""1-nearest-neighbour probe q(c | z): the class of the nearest fitted row, mixed with the marginal."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_mi.estimator.linear import row_blocks
from lightning_mi.estimator.pca_quantizer import Whitening, fit_whitening

_SHARES = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5)  # quantiles of the distances, which separate their ranges
_PRIOR_COUNT = 20.0  # pseudo-rows of each range that the marginal explains; they shrink its weight
_STEPS = 50  # of expectation maximisation; weights are then within about 0.01 of the maximum


@dataclass(frozen=True)
class NearestNeighborProbe:
    """q(c | z) = w 1[c = class of the nearest point] + (1 - w) p(c), with a weight w for each range of distances.

    Attributes:
        points: ``(N, R)`` float32, the fitted rows, in whitened coordinates.
        classes: ``(N,)`` int64, their classes.
        marginal: ``(K,)`` float64, p(c).
        edges: ``(E,)`` float32, ascending distances that separate the ranges.
        weights: ``(E + 1,)`` float64, w of each range.
        whitening: The map to whitened coordinates.
    """

    points: Tensor
    classes: Tensor
    marginal: Tensor
    edges: Tensor
    weights: Tensor
    whitening: Whitening

    def log_ratio(self, z: Tensor, classes: Tensor) -> Tensor:
        """log q(c | z) - log p(c) in nats, ``(N,)`` float64, of ``classes`` ``(N,)`` given ``z`` ``(N, D)``."""
        distances, which = _nearest(self.whitening(z), self.points)
        weights = self.weights[torch.bucketize(distances, self.edges)]
        hits = self.classes[which] == classes
        # A class without fitted rows has marginal 0, but no neighbour has that class: 1/0 is never selected.
        return (weights * (torch.where(hits, 1 / self.marginal[classes], 0) - 1)).log1p()


def fit_nearest_neighbors(z: Tensor, classes: Tensor, num_classes: int, groups: Tensor) -> NearestNeighborProbe:
    """Fit a nearest-neighbour probe to rows whose neighbours are those of other groups.

    Distances are taken in whitened coordinates, in which directions of small variance count as much as those of
    large variance. The weight of each range of distances maximises the likelihood of the mixture, with 20
    pseudo-rows that the marginal explains.

    Args:
        z: ``(N, D)`` floating-point.
        classes: ``(N,)`` int64, 0 to ``num_classes - 1``.
        num_classes: K.
        groups: ``(N,)`` integers; rows of the same group are not neighbours.

    Source:
        Cover and Hart, "Nearest neighbor pattern classification", IEEE Transactions on Information Theory 1967.

    Example:
        >>> import torch
        >>> z = torch.randn(100, 4, generator=torch.Generator().manual_seed(0)).repeat(2, 1)  # each row twice
        >>> classes = torch.arange(200) % 100 % 5
        >>> probe = fit_nearest_neighbors(z, classes, 5, groups=torch.arange(200))
        >>> probe.log_ratio(z, classes).mean().item() > 1.2  # of log 5 = 1.61
        True
    """
    whitening = fit_whitening(z)
    points = whitening(z)
    marginal = torch.bincount(classes, minlength=num_classes).double() / len(classes)
    distances, which = _nearest(points, points, groups)
    shares = torch.tensor(_SHARES, dtype=torch.float64, device=z.device)
    edges = distances.sort().values[(shares * len(distances)).long()]
    hits, p = (classes[which] == classes) & torch.isfinite(distances), marginal[classes]
    member_of = torch.bucketize(distances, edges)
    sizes = torch.bincount(member_of, minlength=len(edges) + 1) + _PRIOR_COUNT
    weights = torch.full_like(sizes, 0.5, dtype=torch.float64)
    for _ in range(_STEPS):
        w = weights[member_of]
        weights = torch.zeros_like(weights).index_add_(0, member_of, hits * w / (w + (1 - w) * p)) / sizes
    return NearestNeighborProbe(points, classes, marginal, edges, weights, whitening)


def _nearest(queries: Tensor, points: Tensor, groups: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Distance to the nearest of ``points`` ``(N, R)`` and its number, ``(M,)`` each. With ``groups`` ``(N,)``,
    which requires that both are the same rows, the nearest of another group."""
    squares = points.square().sum(dim=1)
    distances = queries.new_empty(queries.shape[0])
    which = torch.empty(queries.shape[0], dtype=torch.int64, device=queries.device)
    own = torch.arange(queries.shape[0], device=queries.device)
    for part, low, where, rows in row_blocks(points.shape[0], queries, distances, which, own):
        table = torch.addmm(squares, part, points.T, alpha=-2)
        if groups is not None:
            table.masked_fill_(groups[rows, None] == groups, torch.inf)
        torch.min(table, dim=1, out=(low, where))
    return (distances + queries.square().sum(dim=1)).clamp(min=0).sqrt(), which
