"""The bound is one, and its error bar is one: over many draws from distributions of known mutual information."""

import math

import numpy as np
import pytest
import torch
from scipy.special import digamma, gammaln

from lightning_mi import mi_bound


def pairs(num, dim, rho):
    a = torch.randn(num, dim)
    return a, rho * a + math.sqrt(1 - rho**2) * torch.randn(num, dim)


def gaussian(dim, rho):
    return lambda num: pairs(num, dim, rho), -dim / 2 * math.log(1 - rho**2)


def cubed():
    draw, truth = gaussian(4, 0.9)
    return lambda num: tuple(f(z) for f, z in zip((lambda x: x**3, torch.exp), draw(num), strict=True)), truth


def rotated():
    draw, truth = gaussian(4, 0.9)
    turn = torch.linalg.qr(torch.randn(20, 20)).Q
    return lambda num: tuple(torch.cat([z, 0.5 * torch.randn(num, 16)], dim=1) @ turn for z in draw(num)), truth


def student(dim, rho, freedom):
    def entropy(k):  # less half the log determinant of the scale matrix
        constant = gammaln((freedom + k) / 2) - gammaln(freedom / 2) - k / 2 * math.log(freedom * math.pi)
        return -constant + (freedom + k) / 2 * (digamma((freedom + k) / 2) - digamma(freedom / 2))

    def draw(num):
        scale = torch.distributions.Chi2(freedom).sample((num, 1)).div(freedom).rsqrt()
        return tuple(scale * z for z in pairs(num, dim, rho))

    return draw, -dim / 2 * math.log(1 - rho**2) + 2 * entropy(dim) - entropy(2 * dim)


def mixture(classes, spread):
    centers = spread * torch.randn(classes, 6)

    def draw(num):
        hidden = torch.randint(classes, (num,))
        return centers[hidden] + torch.randn(num, 6), centers[hidden] + torch.randn(num, 6)

    def likelihood(z):
        return -0.5 * torch.cdist(z.double(), centers.double()).square() - math.log(classes)

    a, b = draw(50_000)
    both = (likelihood(a) + likelihood(b) + math.log(classes)).logsumexp(dim=1)
    return draw, float((both - likelihood(a).logsumexp(dim=1) - likelihood(b).logsumexp(dim=1)).mean())


CASES = {
    "one coordinate": lambda: gaussian(1, 0.5),
    "two coordinates": lambda: gaussian(2, 0.95),
    "eight coordinates": lambda: gaussian(8, 0.9),
    "monotone": cubed,
    "rotated": rotated,
    "heavy tails": lambda: student(2, 0.9, 3.0),
    "very heavy tails": lambda: student(4, 0.5, 1.0),
    "four classes": lambda: mixture(4, 4.0),
    "sixteen classes": lambda: mixture(16, 4.0),
    "classes that overlap": lambda: mixture(16, 1.0),
    "independent": lambda: gaussian(16, 0.0),
}


def check(case, draws, num, tolerance):
    sample, truth = CASES[case]()
    estimates = [mi_bound(*sample(num), num_clusters=8, seed=seed) for seed in range(draws)]
    bounds = np.array([estimate.bound for estimate in estimates])
    errors = np.array([estimate.stderr for estimate in estimates])
    scores = [float(estimate.scores.totals.sum() / estimate.scores.counts.sum()) for estimate in estimates]
    assert bounds.mean() <= truth + 3 * np.std(bounds, ddof=1) / math.sqrt(draws)
    # Of limits that cover 95%, fewer than this share do in one of a thousand runs.
    least = 0.95 - 3 * math.sqrt(0.95 * 0.05 / draws)
    assert np.mean(bounds - 1.645 * errors <= truth) >= least
    assert np.mean(bounds <= truth + 2 * errors) >= least
    assert np.sqrt(np.mean(errors**2)) > (1 - tolerance) * np.std(scores, ddof=1)


@pytest.mark.parametrize("case", CASES)
def test_bound_and_error_over_a_few_draws(case):
    check(case, draws=20, num=600, tolerance=0.5)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_bound_and_error_over_many_draws(case):
    check(case, draws=200, num=1000, tolerance=0.2)


def test_rounding_of_the_embeddings_stays_rounding():
    """Another batch size or number of processes rounds embeddings otherwise."""
    changes = []
    for seed in range(10):
        a, b = pairs(800, 10, 0.8)
        first = mi_bound(a, b, 16, seed=seed).bound
        a, b = (z * (1 + 1e-7 * torch.randn_like(z)) for z in (a, b))
        changes.append(abs(mi_bound(a, b, 16, seed=seed).bound - first))
    assert np.median(changes) < 1e-5  # in a few of them a row crosses a border between clusters
    assert max(changes) < 0.02


def test_inference_mode_and_autocast_change_nothing():
    a, b = pairs(500, 6, 0.8)
    plain = mi_bound(a, b, 8)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert mi_bound(a.clone(), b.clone(), 8) == plain
    assert mi_bound(a.requires_grad_(), b, 8) == plain
