"""Whitening against numpy: distances are Mahalanobis distances under the shrunk covariance."""

import numpy as np
import pytest
import torch

from lightning_mi.estimator.kmeans import fit_kmeans
from lightning_mi.estimator.pca_quantizer import fit_whitened, fit_whitening


@pytest.mark.parametrize("shape", [(400, 6), (50, 80)], ids=["more rows", "more dimensions"])
def test_distances_are_those_of_mahalanobis(shape):
    rows, dim = shape
    mixing = torch.randn(dim, dim)
    z = torch.randn(rows, dim) @ mixing * torch.logspace(-2, 3, dim)
    z[:, 1] = 7.0
    whitening = fit_whitening(z)
    x = whitening.scaler.squash(z).double().numpy()
    values, vectors = np.linalg.eigh(np.cov(x.T, bias=True))
    precision = (vectors / (0.9 * values + 0.1 * values.mean())) @ vectors.T
    difference = x[:10] - x[10:20]
    expected = np.sqrt(np.einsum("nd,de,ne->n", difference, precision, difference))
    found = (whitening(z[:10]) - whitening(z[10:20])).norm(dim=1).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_constant_coordinates_become_zero():
    z = torch.full((50, 3), 4.0)
    assert fit_whitening(z)(z).abs().max() == 0


def test_whitened_clusters_separate_a_direction_of_small_variance():
    loud, quiet = 4 * torch.randn(2000, 1), torch.randn(2000, 1)
    z = torch.cat([loud, quiet], dim=1) @ torch.linalg.qr(torch.randn(2, 2)).Q

    def explained(member_of):  # share of the variance of the small direction
        means = torch.stack([quiet[member_of == k].mean() for k in range(8)])
        return means[member_of].var() / quiet.var()

    assert explained(fit_whitened(z, 8)[1]) > 0.5 > explained(fit_kmeans(z, 8)[1])
