"""Draws that several tests of the estimator and of the metrics use, from the global random generator."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_mi.estimator.registry import Probe
from lightning_mi.examples.benchmarks import distributions


def gaussian(num: int, dim: int, rho: float) -> tuple[Tensor, Tensor, float]:
    """Pairs ``(num, dim)`` of correlation ``rho`` and their mutual information in nats."""
    a, b = distributions.gaussian_pairs(num, dim, rho, torch.default_generator)
    return a, b, distributions.gaussian_information(dim, rho)


def mixture(num: int, dim: int, classes: int, spread: float) -> tuple[Tensor, Tensor, float]:
    """Pairs ``(num, dim)`` that share a hidden class and nothing else, and their mutual information in nats."""
    distribution = _mixture(classes, dim, spread)
    return (*distribution.draw(num, torch.default_generator), distribution.truth)


_mixture = cache(distributions.mixture)  # its truth is a Monte Carlo estimate


def blobs(num: int, dim: int, clusters: int, spread: float = 10.0) -> Tensor:
    """Points ``(num, dim)`` around random centres."""
    centers = spread * torch.randn(clusters, dim)
    return centers[torch.randint(clusters, (num,))] + torch.randn(num, dim)


def classification(num: int, dim: int, classes: int, noise: float) -> tuple[Tensor, Tensor]:
    """Embeddings ``(num, dim)`` around class means, and their classes ``(num,)``."""
    targets = torch.randint(classes, (num,))
    z = F.one_hot(targets, classes).float() @ torch.randn(classes, dim) + noise * torch.randn(num, dim)
    return z, targets


def log_prob(probe: Probe, z: Tensor, targets: Tensor) -> Tensor:
    """log q(c | z) in nats, ``(N,)``, of ``targets`` ``(N,)`` given ``z`` ``(N, D)``."""
    return probe.probabilities(z).gather(1, targets[:, None])[:, 0].log()
