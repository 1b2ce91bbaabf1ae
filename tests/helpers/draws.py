"""Draws that several tests of the estimator use."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def gaussian(num: int, dim: int, rho: float) -> tuple[Tensor, Tensor, float]:
    """Pairs ``(num, dim)`` and their mutual information, -dim/2 log(1 - rho^2), in nats."""
    a = torch.randn(num, dim)
    return a, rho * a + math.sqrt(1 - rho**2) * torch.randn(num, dim), -dim / 2 * math.log(1 - rho**2)


def mixture(num: int, dim: int, classes: int, spread: float) -> tuple[Tensor, Tensor, float]:
    """Pairs that share a hidden class and nothing else, and their mutual information by Monte Carlo, in nats."""
    centers = spread * torch.randn(classes, dim)

    def draw(n: int) -> tuple[Tensor, Tensor]:
        hidden = torch.randint(classes, (n,))
        return centers[hidden] + torch.randn(n, dim), centers[hidden] + torch.randn(n, dim)

    def log_likelihood(z: Tensor) -> Tensor:  # (n, classes), up to a constant
        return -0.5 * torch.cdist(z.double(), centers.double()).square() - math.log(classes)

    a, b = draw(50_000)
    both = (log_likelihood(a) + log_likelihood(b) + math.log(classes)).logsumexp(dim=1)
    alone = log_likelihood(a).logsumexp(dim=1) + log_likelihood(b).logsumexp(dim=1)
    return (*draw(num), float((both - alone).mean()))


def blobs(num: int, dim: int, clusters: int, spread: float = 10.0) -> Tensor:
    """Points ``(num, dim)`` around random centres."""
    centers = spread * torch.randn(clusters, dim)
    return centers[torch.randint(clusters, (num,))] + torch.randn(num, dim)


def classification(num: int, dim: int, classes: int, noise: float) -> tuple[Tensor, Tensor]:
    """Embeddings ``(num, dim)`` around class means, and their classes ``(num,)``."""
    targets = torch.randint(classes, (num,))
    z = F.one_hot(targets, classes).float() @ torch.randn(classes, dim) + noise * torch.randn(num, dim)
    return z, targets
