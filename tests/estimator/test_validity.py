"""The bound is a bound and its error bar is one: over many draws from distributions of known mutual information."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_t

from lightning_mi import mi_bound
from lightning_mi.examples.benchmarks.distributions import Distribution, known, student_information
from tests.helpers.draws import gaussian

NAMES = (
    "Gaussian d=1 rho=0.5",
    "Gaussian d=2 rho=0.95",
    "Gaussian d=8 rho=0.5",
    "Gaussian d=8 rho=0.9",
    "Gaussian d=32 rho=0.8",
    "Gaussian d=4 rho=0.9, cubed and exp",
    "Gaussian d=4 rho=0.9 in 32, rotated",
    "Gaussian d=2 rho=0.99, sign lost",
    "Student d=2 rho=0.9 dof=3",
    "Student d=4 rho=0.5 dof=1",
    "mixture of 4, spread 4",
    "mixture of 16, spread 4",
    "mixture of 16, spread 1",
    "independent d=16",
)


@pytest.fixture(scope="module")
def distributions() -> dict[str, Distribution]:
    return {distribution.name: distribution for distribution in known()}


def check(distribution: Distribution, draws: int, num: int, tolerance: float) -> None:
    estimates = [
        mi_bound(*distribution.draw(num, torch.default_generator), distribution.num_clusters, seed=seed)
        for seed in range(draws)
    ]
    bounds = np.array([estimate.bound for estimate in estimates])
    errors = np.array([estimate.stderr for estimate in estimates])
    scores = [float(estimate.scores.totals.sum() / estimate.scores.counts.sum()) for estimate in estimates]
    # Before the floor at 0, which lifts the mean above a truth of 0.
    assert np.mean(scores) <= distribution.truth + 3 * np.std(scores, ddof=1) / math.sqrt(draws)
    # If the limits cover 95%, they cover less than this share of the draws in one of a thousand runs.
    least = 0.95 - 3 * math.sqrt(0.95 * 0.05 / draws)
    assert np.mean(bounds - 1.645 * errors <= distribution.truth) >= least
    assert np.mean(bounds <= distribution.truth + 2 * errors) >= least
    assert np.sqrt(np.mean(errors**2)) > (1 - tolerance) * np.std(scores, ddof=1)


def test_no_known_distribution_is_left_out(distributions):
    assert tuple(distributions) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_bound_and_error_over_a_few_draws(distributions, name):
    check(distributions[name], draws=20, num=600, tolerance=0.5)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_bound_and_error_over_many_draws(distributions, name):
    check(distributions[name], draws=200, num=1000, tolerance=0.2)


@pytest.mark.parametrize(("dim", "rho", "freedom"), [(1, 0.5, 2.0), (2, 0.9, 3.0), (4, 0.5, 1.0)])
def test_information_of_student_variables_is_that_of_scipys_entropies(dim, rho, freedom):
    joint = np.kron(np.array([[1, rho], [rho, 1]]), np.eye(dim))
    alone = multivariate_t(shape=np.eye(dim), df=freedom).entropy()
    truth = 2 * alone - multivariate_t(shape=joint, df=freedom).entropy()
    assert student_information(dim, rho, freedom) == pytest.approx(float(truth), abs=1e-6)


def test_rounding_of_the_embeddings_barely_moves_the_bound():
    """Another batch size or another number of processes rounds the embeddings differently."""
    changes = []
    for seed in range(10):
        a, b, _ = gaussian(800, 10, 0.8)
        first = mi_bound(a, b, 16, seed=seed).bound
        a, b = (z * (1 + 1e-7 * torch.randn_like(z)) for z in (a, b))
        changes.append(abs(mi_bound(a, b, 16, seed=seed).bound - first))
    assert np.median(changes) < 1e-5  # in a few draws a row crosses the border between two clusters
    assert max(changes) < 0.02


def test_inference_mode_and_autocast_change_nothing():
    a, b, _ = gaussian(500, 6, 0.8)
    plain = mi_bound(a, b, 8)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert mi_bound(a.clone(), b.clone(), 8) == plain
    assert mi_bound(a.requires_grad_(), b, 8) == plain
