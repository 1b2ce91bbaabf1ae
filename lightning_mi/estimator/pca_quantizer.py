"""Whitened quantiser: k-means on principal coordinates of equal variance."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_mi.estimator.kmeans import cluster, search
from lightning_mi.estimator.linalg import gram, row_space
from lightning_mi.estimator.scaling import RobustScaler, fit_scaler

_SHRINKAGE = 0.1


@dataclass(frozen=True)
class ProjectedQuantizer:
    """Cluster centres in linear coordinates ``squash(x) @ directions``.

    Attributes:
        centroids: ``(K', R)`` float32, K' at most the K that was asked for.
        directions: ``(D, R)`` float32.
        scaler: The scaling that is applied first.
    """

    centroids: Tensor
    directions: Tensor
    scaler: RobustScaler

    def assign(self, x: Tensor) -> Tensor:
        """Number of the nearest centre of each row of ``x`` ``(N, D)``: ``(N,)`` int64."""
        return search(self.scaler.squash(x) @ self.directions, self.centroids)[1]


@dataclass(frozen=True)
class Whitening:
    """A map to uncorrelated coordinates of (nearly) equal variance.

    Attributes:
        directions: ``(D, R)`` float32; R is D, unless there are far more dimensions than rows.
        scaler: The scaling that is applied first.
    """

    directions: Tensor
    scaler: RobustScaler

    def __call__(self, x: Tensor) -> Tensor:
        """The coordinates ``(N, R)`` float32 of ``x`` ``(N, D)``."""
        return self.scaler.squash(x) @ self.directions


def fit_whitening(x: Tensor) -> Whitening:
    """Fit a :class:`Whitening` to the rows of ``x`` ``(N, D)``.

    The covariance is shrunk by a tenth toward a multiple of the identity, so that directions of almost no variance
    stay small. With its Cholesky factor L the coordinates are ``x @ L^-T``. These are the principal coordinates at
    unit variance up to a rotation, which leaves distances unchanged and would take most of the time. If there are
    far more dimensions than rows, the coordinates are those in the space of the rows; what is left out of another
    row is as far from each of them.

    Example:
        >>> import torch
        >>> x = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 100.0])
        >>> [round(deviation.item(), 1) for deviation in fit_whitening(x)(x).std(dim=0)]
        [1.0, 1.0]
    """
    scaler = fit_scaler(x)
    rows = scaler.squash(x)
    basis = row_space(rows)
    if basis is not None:
        rows = rows @ basis
    root = shrunk_root(rows, _SHRINKAGE, x.shape[1])
    identity = torch.eye(rows.shape[1], dtype=root.dtype, device=x.device)
    directions = torch.linalg.solve_triangular(root.T, identity, upper=True).float()
    return Whitening(directions if basis is None else basis @ directions, scaler)


def fit_whitened(x: Tensor, num_clusters: int, seed: int = 0) -> tuple[ProjectedQuantizer, Tensor]:
    """Cluster the rows of ``x`` ``(N, D)`` in the coordinates of :func:`fit_whitening`.

    Args:
        x: ``(N, D)`` floating-point, finite.
        num_clusters: K, between 1 and N.
        seed: Seed of the k-means.

    Returns:
        The quantiser, and the cluster of each row of ``x``, ``(N,)`` int64.

    Example:
        >>> import torch
        >>> x = torch.tensor([[0.0, 0.0], [0.0, 1e-3], [5.0, 0.0], [5.0, 1e-3]])
        >>> quantizer, member_of = fit_whitened(x, num_clusters=4)
        >>> len(member_of.unique())
        4
    """
    whitening = fit_whitening(x)
    centroids, member_of = cluster(whitening(x), num_clusters, seed)
    return ProjectedQuantizer(centroids, whitening.directions, whitening.scaler), member_of


def shrunk_root(x: Tensor, shrinkage: float, num_dims: int) -> Tensor:
    """Cholesky factor ``(R, R)`` float64 of the covariance of the rows of ``x`` ``(N, R)`` float32, shrunk toward
    the multiple of the identity in ``num_dims`` dimensions that has the same trace."""
    mean = x.mean(dim=0, dtype=torch.float64)
    total = (gram(x) / x.shape[0]).addr_(mean, mean, alpha=-1)
    size = (total.diagonal().sum() / num_dims).clamp(min=1e-12)
    total.mul_(1 - shrinkage).diagonal().add_(shrinkage * size)
    return torch.linalg.cholesky_ex(total).L
