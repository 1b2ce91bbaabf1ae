"""Canonical directions against the true correlations, and against scipy's matrix roots."""

import numpy as np
import pytest
import scipy.linalg
import torch

from lightning_mi import mi_bound
from lightning_mi.estimator.cca_quantizer import directions, fit_canonical
from tests.helpers.draws import gaussian


def test_canonical_directions_have_the_true_correlations():
    rho = torch.tensor([0.9, 0.5, 0.1])
    a = torch.randn(20_000, 3)
    b = rho * a + (1 - rho**2).sqrt() * torch.randn(20_000, 3)
    mix_a, mix_b = torch.linalg.qr(torch.randn(3, 3)).Q, torch.linalg.qr(torch.randn(3, 3)).Q
    left, right = directions(a @ mix_a, b @ mix_b)
    assert left.shape == right.shape == (3, 3)
    u, v = a @ mix_a @ left, b @ mix_b @ right
    correlations = torch.corrcoef(torch.cat([u, v], dim=1).T)[:3, 3:].diagonal()
    torch.testing.assert_close(correlations, rho, atol=0.03, rtol=0)


@pytest.mark.parametrize("shape", [(400, 5, 7), (400, 7, 5), (20, 30, 6)], ids=["wide", "tall", "few rows"])
def test_directions_are_the_singular_vectors_of_the_whitened_covariance(shape):
    """In them the shrunk covariances are the identity and the cross-covariance is diagonal."""
    rows, dim_a, dim_b = shape
    a = torch.randn(rows, dim_a)
    b = a[:, :1] + torch.randn(rows, dim_b)
    left, right = (found.double().numpy() for found in directions(a, b))

    def shrunk(x):
        covariance = np.cov(x.double().numpy().T, bias=True)
        return 0.9 * covariance + 0.1 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))

    covariance_a, covariance_b = shrunk(a), shrunk(b)
    cross = np.cov(a.double().numpy().T, b.double().numpy().T, bias=True)[:dim_a, dim_a:]
    roots = [np.linalg.inv(scipy.linalg.sqrtm(each).real) for each in (covariance_a, covariance_b)]
    correlations = np.linalg.svd(roots[0] @ cross @ roots[1])[1]
    np.testing.assert_allclose(left.T @ cross @ right, np.diag(correlations), atol=1e-5)
    np.testing.assert_allclose(left.T @ covariance_a @ left, np.eye(len(correlations)), atol=1e-5)
    np.testing.assert_allclose(right.T @ covariance_b @ right, np.eye(len(correlations)), atol=1e-5)


def test_canonical_finds_what_is_shared_among_louder_noise():
    a, b, truth = gaussian(2000, 2, 0.95)
    a, b = (torch.cat([z, 3 * torch.randn(2000, 20)], dim=1) for z in (a, b))
    assert mi_bound(a, b, 16).bound < 0.1 * truth
    assert 0.5 * truth < mi_bound(a, b, 16, quantizer="canonical").bound < truth


def test_canonical_uses_every_coordinate_if_none_is_shared():
    _, member_of = fit_canonical(torch.randn(400, 3), torch.randn(400, 3), 8)
    assert len(member_of.unique()) == 8
