"""The nearest-neighbour probe against all distances and against the likelihood that its weights maximise."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from lightning_mi.estimator.knn_probe import fit_nearest_neighbors
from lightning_mi.estimator.pca_quantizer import fit_whitening


@pytest.fixture
def rows():
    """Embeddings in pairs of one group, and classes that neighbours share."""
    z = torch.randn(120, 5)
    return z, (z[:, 0] > 0).long() + (z[:, 1] > 1).long(), torch.arange(120) // 2


def distances_to_other_groups(z, groups):
    points = fit_whitening(z)(z)
    table = torch.cdist(points, points)
    table[groups[:, None] == groups] = torch.inf
    return table


def test_ranges_end_at_quantiles_of_the_distances_to_other_groups(rows):
    z, classes, groups = rows
    nearest = distances_to_other_groups(z, groups).amin(dim=1)
    expected = nearest.sort().values[(torch.tensor([0.01, 0.02, 0.05, 0.1, 0.25, 0.5]) * 120).long()]
    torch.testing.assert_close(fit_nearest_neighbors(z, classes, 3, groups).edges, expected)


def test_weights_maximise_the_likelihood_with_20_rows_of_the_marginal(rows):
    z, classes, groups = rows
    probe = fit_nearest_neighbors(z, classes, 3, groups)
    nearest, which = distances_to_other_groups(z, groups).min(dim=1)
    marginal = np.bincount(classes, minlength=3) / 120
    hits, p = (classes[which] == classes).numpy(), marginal[classes]
    ranges = np.searchsorted(probe.edges.numpy(), nearest.numpy())

    def loss(w, inside):
        return -np.log(w * hits[inside] + (1 - w) * p[inside]).sum() - 20 * np.log(1 - w)

    for number, weight in enumerate(probe.weights.tolist()):
        best = minimize_scalar(loss, bounds=(0, 1 - 1e-9), args=(ranges == number,), method="bounded").x
        assert weight == pytest.approx(best, abs=0.01)  # 50 steps of EM end near the maximum


def test_the_prediction_is_a_distribution(rows):
    z, classes, groups = rows
    probe = fit_nearest_neighbors(z, classes, 3, groups)
    query = torch.randn(7, 5)
    total = sum((probe.log_ratio(query, torch.full((7,), c)) + probe.marginal[c].log()).exp() for c in range(3))
    torch.testing.assert_close(total, torch.ones(7, dtype=torch.float64))


def test_a_class_that_was_not_fitted_costs_the_weight_of_the_neighbour(rows):
    z, classes, groups = rows
    probe = fit_nearest_neighbors(z, classes, 4, groups)
    query, whitening = torch.randn(7, 5), fit_whitening(z)
    nearest = torch.cdist(whitening(query), whitening(z)).amin(dim=1)
    expected = 1 - probe.weights[torch.bucketize(nearest, probe.edges)]
    torch.testing.assert_close(probe.log_ratio(query, torch.full((7,), 3)).exp(), expected)


def test_rows_of_one_group_are_no_neighbours():
    """All rows are one group, so no weight is left for a neighbour."""
    z, classes = torch.randn(120, 5), torch.arange(120)
    probe = fit_nearest_neighbors(z, classes, 120, torch.zeros(120, dtype=torch.int64))
    assert float(probe.weights.max()) < 1e-6
