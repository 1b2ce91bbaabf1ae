"""Canonical quantiser: k-means on the canonical correlation (CCA) coordinates of ``z_b`` with ``z_a``."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_mi.estimator.kmeans import cluster
from lightning_mi.estimator.pca_quantizer import ProjectedQuantizer, shrunk_root
from lightning_mi.estimator.scaling import fit_scaler

_SHRINKAGE = 0.1
_TINY = 1e-12  # relative to the largest squared correlation


def fit_canonical(z_a: Tensor, z_b: Tensor, num_clusters: int, seed: int = 0) -> tuple[ProjectedQuantizer, Tensor]:
    """Cluster the rows of ``z_b`` in its canonical coordinates with ``z_a``.

    Both covariances are shrunk by a tenth toward a multiple of the identity. The directions are found on one half
    of the rows and their correlations measured on the other. Each coordinate is scaled by its correlation there,
    so spurious correlations (most of them, if there are more dimensions than rows) get no weight.

    Args:
        z_a: ``(N, D)`` floating-point.
        z_b: ``(N, D')`` floating-point; row i belongs to row i of ``z_a``.
        num_clusters: K, between 1 and N.
        seed: Seed of the k-means.

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
    left, right = directions(a[:half], b[:half])
    u, v = a[half:] @ left, b[half:] @ right
    u, v = u - u.mean(dim=0), v - v.mean(dim=0)
    correlation = (u * v).sum(dim=0) / (u.norm(dim=0) * v.norm(dim=0)).clamp(min=1e-12)
    noise = 2 * a[half:].shape[0] ** -0.5  # two standard errors of the correlation of independent variables
    weight = torch.where(correlation > noise, correlation, 0) / v.square().mean(dim=0).sqrt().clamp(min=1e-6)
    if not bool(weight.any()):
        weight = torch.ones_like(weight)
    scaled = (right * weight)[:, weight > 0]
    centroids, member_of = cluster(b @ scaled, num_clusters, seed)
    return ProjectedQuantizer(centroids, scaled, scaler), member_of


def directions(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Canonical directions ``(D, R)`` and ``(D', R)`` of ``a`` ``(N, D)`` and ``b`` ``(N, D')``, float32,
    strongest first; R is the rank of their covariance."""
    left_root, right_root = shrunk_root(a, _SHRINKAGE), shrunk_root(b, _SHRINKAGE)
    a_mean, b_mean = a.mean(dim=0, dtype=torch.float64), b.mean(dim=0, dtype=torch.float64)
    cross = ((a.T @ b).double() / a.shape[0]).addr_(a_mean, b_mean, alpha=-1)
    whitened = torch.linalg.solve_triangular(left_root, cross, upper=False)
    whitened = torch.linalg.solve_triangular(right_root, whitened.T, upper=False).T
    # Singular vectors from the smaller Gram matrix, in half of the time. Its eigenvalues below _TINY are rounding
    # error: with fewer rows than dimensions the rank is at most the number of rows.
    wide = whitened.shape[0] < whitened.shape[1]
    squares, vectors = torch.linalg.eigh(whitened @ whitened.T if wide else whitened.T @ whitened)
    real = squares > _TINY * squares[-1]
    squares, vectors = squares[real].flip(0), vectors[:, real].flip(1)
    others = (whitened.T if wide else whitened) @ vectors / squares.sqrt()
    u, v = (vectors, others) if wide else (others, vectors)
    left = torch.linalg.solve_triangular(left_root.T, u, upper=True)
    right = torch.linalg.solve_triangular(right_root.T, v, upper=True)
    return left.float(), right.float()
