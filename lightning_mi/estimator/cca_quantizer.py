"""Canonical quantiser: k-means on the canonical correlation (CCA) coordinates of ``z_b`` with ``z_a``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_mi.estimator.kmeans import cluster
from lightning_mi.estimator.linalg import gram, row_space
from lightning_mi.estimator.pca_quantizer import ProjectedQuantizer
from lightning_mi.estimator.scaling import fit_scaler

SHRINKAGES = (0.95, 0.5, 0.1)
_MOST_DIRECTIONS = 64
_STEPS = 3  # of subspace iteration for the first shrinkage; the others start from the subspace before
_STEPS_AFTER = 1
_STRONGEST = 0.999  # above which a correlation is not told from 1


@dataclass(frozen=True)
class Directions:
    """Pairs of canonical directions, strongest first.

    Attributes:
        left: ``(D, R)`` float32, of ``z_a``; the rows that they were found on have variance 1 along each.
        right: ``(D', R)`` float32, of ``z_b``.
    """

    left: Tensor
    right: Tensor


def fit_canonical(z_a: Tensor, z_b: Tensor, num_clusters: int, seed: int = 0) -> tuple[ProjectedQuantizer, Tensor]:
    """Cluster the rows of ``z_b`` in its canonical coordinates with ``z_a``.

    Both covariances are shrunk toward a multiple of the identity. At most 64 directions are found on one half of
    the rows, for up to three shrinkages, and their correlations measured on the other. The shrinkage is that whose
    correlations there hold the most information, as if the coordinates were Gaussian: a small one if there are
    many rows for each dimension, nearly 1 (partial least squares) if there are few. It falls as long as the
    information rises. Each coordinate is scaled
    by its correlation, so spurious ones (most, if there are more dimensions than rows) get no weight.

    Args:
        z_a: ``(N, D)`` floating-point.
        z_b: ``(N, D')`` floating-point; row i belongs to row i of ``z_a``.
        num_clusters: K, between 1 and N.
        seed: Seed of the k-means and of the search for directions.

    Returns:
        The quantiser, and the cluster of each row of ``z_b``, ``(N,)`` int64.

    Source:
        Hotelling, "Relations between two sets of variates", Biometrika 1936; Vinod, "Canonical ridge and
        econometrics of joint production", Journal of Econometrics 1976.

    Example:
        >>> import torch
        >>> z_b = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
        >>> _, member_of = fit_canonical(z_b[:, :1], z_b, num_clusters=2)  # z_a is the first coordinate
        >>> bool((member_of == (z_b[:, 0] > 0)).float().mean().sub(0.5).abs() > 0.4)
        True
    """
    scaler = fit_scaler(z_b)
    a, b = fit_scaler(z_a).squash(z_a), scaler.squash(z_b)
    half = a.shape[0] // 2
    u, v = a[half:] - a[half:].mean(dim=0), b[half:] - b[half:].mean(dim=0)
    noise = 2 * u.shape[0] ** -0.5  # two standard errors of the correlation of independent variables
    most, scaled = -1.0, b.new_empty(0)
    for found in directions(a[:half], b[:half], min(_MOST_DIRECTIONS, num_clusters), seed):
        left, right = u @ found.left, v @ found.right
        deviation = right.square().mean(dim=0).sqrt().clamp(min=1e-6)
        correlation = (left * right).mean(dim=0) / (left.square().mean(dim=0).sqrt().clamp(min=1e-6) * deviation)
        correlation = torch.where(correlation > noise, correlation, 0).clamp(max=_STRONGEST)
        information = float(-torch.log1p(-correlation.square()).sum())
        if information < most:
            break  # with less shrinkage there are more spurious directions yet
        if information > most:
            some = correlation > 0 if information > 0 else torch.ones_like(correlation, dtype=torch.bool)
            weight = correlation if information > 0 else torch.ones_like(correlation)
            most, scaled = information, (found.right * weight / deviation)[:, some]
    centroids, member_of = cluster(b @ scaled, num_clusters, seed)
    return ProjectedQuantizer(centroids, scaled, scaler), member_of


def directions(
    a: Tensor, b: Tensor, rank: int, seed: int = 0, shrinkages: tuple[float, ...] = SHRINKAGES
) -> Iterator[Directions]:
    """The leading canonical directions of ``a`` ``(N, D)`` and ``b`` ``(N, D')``, float32, for each shrinkage in
    turn.

    Subspace iteration with the two ridge regressions, a on b's scores and b on a's. If there are far more
    dimensions than rows, it works in the space of the rows, in which all directions lie.

    Source:
        Golub and Zha, "The canonical correlations of matrix pairs and their numerical computation", 1995; Halko,
        Martinsson, Tropp, "Finding structure with randomness", SIAM Review 2011, for the iteration.
    """
    one, other = _Side.of(a), _Side.of(b)
    cross = one.rows.T @ other.rows / a.shape[0]
    rank = min(rank, *cross.shape)
    # Drawn on the host: the same on every device.
    noise = torch.randn(cross.shape[1], rank, generator=torch.Generator().manual_seed(seed))
    right = noise.to(a)
    for number, shrinkage in enumerate(shrinkages):
        roots = one.root(shrinkage), other.root(shrinkage)
        for _ in range(_STEPS_AFTER if number else _STEPS):
            left = torch.cholesky_solve(cross @ right, roots[0])
            left = torch.linalg.qr(left).Q
            right = torch.cholesky_solve(cross.T @ left, roots[1])
            right = torch.linalg.qr(right).Q
        left = torch.cholesky_solve(cross @ right, roots[0])
        yield _canonical(one, other, left, right, cross)


@dataclass(frozen=True)
class _Side:
    """Centred rows in a space of few dimensions, and their covariance.

    Attributes:
        rows: ``(N, R)``, centred.
        covariance: ``(R, R)``.
        variance: Mean variance of the coordinates of the full space, a 0-d tensor.
        basis: ``(D, R)``, orthonormal; ``None`` for the full space.
    """

    rows: Tensor
    covariance: Tensor
    variance: Tensor
    basis: Tensor | None

    @staticmethod
    def of(x: Tensor) -> _Side:
        rows = x - x.mean(dim=0)
        basis = row_space(rows)
        if basis is not None:
            rows = rows @ basis
        covariance = (gram(rows) / x.shape[0]).to(x.dtype)
        variance = covariance.diagonal().sum() / x.shape[1]
        return _Side(rows, covariance, variance.clamp(min=1e-12), basis)

    def root(self, shrinkage: float) -> Tensor:
        """Cholesky factor of the shrunk covariance."""
        shrunk = self.covariance * (1 - shrinkage)
        shrunk.diagonal().add_(shrinkage * self.variance)
        return torch.linalg.cholesky_ex(shrunk).L

    def full(self, directions: Tensor) -> Tensor:
        """The directions in the space of the embeddings."""
        return directions if self.basis is None else self.basis @ directions


def _canonical(one: _Side, other: _Side, left: Tensor, right: Tensor, cross: Tensor) -> Directions:
    """Directions within both subspaces whose scores have variance 1 and correlate with their partners' alone."""
    left, right = _unit_variance(one.covariance, left), _unit_variance(other.covariance, right)
    # In float32 LAPACK may not converge if many correlations are about 1.
    u, _, v = torch.linalg.svd((left.T @ cross @ right).double())
    return Directions(one.full(left @ u.to(left)), other.full(right @ v.T.to(right)))


def _unit_variance(covariance: Tensor, directions: Tensor) -> Tensor:
    inner = (directions.T @ covariance @ directions).double()
    inner.diagonal().add_(1e-6 * inner.diagonal().mean().clamp(min=1e-30))
    root = torch.linalg.cholesky_ex(inner).L.to(directions.dtype)
    return torch.linalg.solve_triangular(root, directions.T, upper=False).T
