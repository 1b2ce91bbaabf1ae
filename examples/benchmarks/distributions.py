"""Distributions of pairs whose mutual information is known, in nats."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Distribution:
    """Something to draw pairs from.

    Attributes:
        name: What the tables call it.
        draw: From the number of pairs and a generator to ``z_a`` and ``z_b``, each ``(N, D)``.
        truth: Their mutual information in nats.
        num_clusters: K that fits it.
    """

    name: str
    draw: Callable[[int, torch.Generator], tuple[Tensor, Tensor]]
    truth: float
    num_clusters: int = 16


def gaussian_information(dim: int, rho: float) -> float:
    """I(X; Y) of ``dim`` independent pairs of correlation ``rho``: -dim/2 log(1 - rho^2)."""
    return -dim / 2 * math.log(1 - rho**2)


def student_information(dim: int, rho: float, freedom: float) -> float:
    """I(X; Y) of the two halves of a Student variable of ``2 dim`` dimensions: the Gaussian's, and what the common
    scale tells, by the entropies h(X) + h(Y) - h(X, Y) of multivariate Student variables.

    Source:
        Guerrero-Cusumano, "A measure of total variability for the multivariate t distribution with applications
        to finance", Information Sciences 1996.
    """

    def excess(k: int) -> float:  # entropy less log det of the scale matrix / 2
        halves = torch.tensor([(freedom + k) / 2, freedom / 2], dtype=torch.float64)
        gammas, digammas = torch.lgamma(halves), torch.digamma(halves)
        log_constant = gammas[0] - gammas[1] - k / 2 * math.log(freedom * math.pi)
        return float(-log_constant + halves[0] * (digammas[0] - digammas[1]))

    return gaussian_information(dim, rho) + 2 * excess(dim) - excess(2 * dim)


def folded_information(dim: int, rho: float) -> float:
    """I(|X|; |Y|) of ``dim`` independent pairs of correlation ``rho``, by Monte Carlo over 200,000 pairs."""
    a, b = gaussian_pairs(200_000, 1, rho, torch.Generator().manual_seed(0))
    x, y = a.double(), b.double()

    def log_ratio(y: Tensor) -> Tensor:  # of the joint density and the product of both marginals
        return (2 * rho * x * y - rho**2 * (x**2 + y**2)) / (2 * (1 - rho**2)) - math.log(1 - rho**2) / 2

    return dim * float((torch.logaddexp(log_ratio(y), log_ratio(-y)) - math.log(2)).mean())


def gaussian_pairs(num: int, dim: int, rho: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """``dim`` independent coordinates of correlation ``rho``: two tensors ``(num, dim)``."""
    a, noise = torch.randn(2, num, dim, generator=generator)
    return a, rho * a + math.sqrt(1 - rho**2) * noise


def rotation(dim: int) -> Tensor:
    """A fixed random rotation ``(dim, dim)``."""
    return torch.linalg.qr(torch.randn(dim, dim, generator=torch.Generator().manual_seed(dim))).Q


def mixture(classes: int, dim: int, spread: float) -> Distribution:
    """Two noisy views of one of ``classes`` centres; the truth by Monte Carlo over 100,000 pairs."""
    fixed = torch.Generator().manual_seed(classes)
    centers = spread * torch.randn(classes, dim, generator=fixed)

    def draw(num: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        hidden = torch.randint(classes, (num,), generator=generator)
        a, b = centers[hidden] + torch.randn(2, num, dim, generator=generator)
        return a, b

    def log_likelihood(z: Tensor) -> Tensor:  # of each centre, up to what does not depend on it
        return -torch.cdist(z.double(), centers.double()).square() / 2 - math.log(classes)

    a, b = draw(100_000, fixed)
    both = (log_likelihood(a) + log_likelihood(b) + math.log(classes)).logsumexp(dim=1)
    alone = log_likelihood(a).logsumexp(dim=1) + log_likelihood(b).logsumexp(dim=1)
    return Distribution(f"mixture of {classes}, spread {spread:g}", draw, float((both - alone).mean()), classes)


def known() -> list[Distribution]:
    """The distributions of the validity and options tables."""

    def gaussian(dim: int, rho: float) -> Distribution:
        return Distribution(
            f"Gaussian d={dim} rho={rho:g}",
            lambda num, generator: gaussian_pairs(num, dim, rho, generator),
            gaussian_information(dim, rho),
        )

    def student(dim: int, rho: float, freedom: float) -> Distribution:
        def draw(num: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            a, b = gaussian_pairs(num, dim, rho, generator)
            squares = torch.randn(num, int(freedom), generator=generator).square().sum(dim=1, keepdim=True)
            scale = (freedom / squares).sqrt()
            return a * scale, b * scale

        truth = student_information(dim, rho, freedom)
        return Distribution(f"Student d={dim} rho={rho:g} dof={freedom:g}", draw, truth)

    def cubed(num: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        a, b = gaussian_pairs(num, 4, 0.9, generator)
        return a**3, b.exp()

    def rotated(num: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        a, b = gaussian_pairs(num, 4, 0.9, generator)
        noise_a, noise_b = torch.randn(2, num, 28, generator=generator) / 2
        turn = rotation(32)
        return torch.cat([a, noise_a], dim=1) @ turn, torch.cat([b, noise_b], dim=1) @ turn

    def folded(num: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        a, b = gaussian_pairs(num, 2, 0.99, generator)
        sign = torch.where(torch.rand(num, 2, generator=generator) < 0.5, -1.0, 1.0)
        return a * sign, b.abs()

    def independent(num: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        a, b = torch.randn(2, num, 16, generator=generator)
        return a, b

    return [
        gaussian(1, 0.5),
        gaussian(2, 0.95),
        gaussian(8, 0.5),
        gaussian(8, 0.9),
        gaussian(32, 0.8),
        Distribution("Gaussian d=4 rho=0.9, cubed and exp", cubed, gaussian_information(4, 0.9)),
        Distribution("Gaussian d=4 rho=0.9 in 32, rotated", rotated, gaussian_information(4, 0.9)),
        Distribution("Gaussian d=2 rho=0.99, sign lost", folded, folded_information(2, 0.99)),
        student(2, 0.9, 3),
        student(4, 0.5, 1),
        mixture(4, 6, 4.0),
        mixture(16, 6, 4.0),
        mixture(16, 6, 1.0),
        Distribution("independent d=16", independent, 0.0),
    ]


def embeddings(num: int, dim: int, seed: int = 0) -> tuple[Tensor, Tensor, float]:
    """Pairs that look like embeddings: a falling spectrum in a random basis, of which up to 16 directions of large
    variance are shared (correlation 0.95).

    Returns:
        ``z_a`` and ``z_b``, ``(num, dim)`` float32, and their mutual information in nats.
    """
    generator = torch.Generator().manual_seed(seed)
    shared = min(16, dim)
    scale = torch.arange(1, dim + 1) ** -0.5
    a, b = torch.randn(2, num, dim, generator=generator)
    b[:, :shared] = 0.95 * a[:, :shared] + math.sqrt(1 - 0.95**2) * b[:, :shared]
    turn = rotation(dim)
    return (a * scale) @ turn, (b * scale) @ turn, gaussian_information(shared, 0.95)
