"""Canonical directions against the true correlations, and against scipy's matrix roots."""

import math

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
    for found in directions(a @ mix_a, b @ mix_b, rank=64):
        assert found.left.shape == found.right.shape == (3, 3)
        u, v = a @ mix_a @ found.left, b @ mix_b @ found.right
        correlations = torch.corrcoef(torch.cat([u, v], dim=1).T)
        torch.testing.assert_close(correlations[:3, 3:], torch.diag(rho), atol=0.03, rtol=0)
        torch.testing.assert_close(correlations[:3, :3], torch.eye(3), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("shape", "shrinkage"),
    [((400, 20, 30), 0.1), ((400, 30, 20), 0.9), ((40, 90, 100), 0.9), ((40, 20, 100), 0.9)],
)
def test_directions_span_the_leading_singular_vectors_of_the_whitened_covariance(shape, shrinkage):
    rows, dim_a, dim_b = shape
    shared = 4 * torch.randn(rows, 3)
    a, b = torch.randn(rows, dim_a), torch.randn(rows, dim_b)
    a[:, :3] += shared
    b[:, :3] += shared
    (found,) = directions(a, b, rank=3, shrinkages=(shrinkage,))

    def shrunk(x):
        covariance = np.cov(x.double().numpy().T, bias=True)
        return (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / len(covariance) * np.eye(
            len(covariance)
        )

    cross = np.cov(a.double().numpy().T, b.double().numpy().T, bias=True)[:dim_a, dim_a:]
    roots = [np.linalg.inv(scipy.linalg.sqrtm(shrunk(each)).real) for each in (a, b)]
    u, _, v = np.linalg.svd(roots[0] @ cross @ roots[1])
    for expected, one in ((roots[0] @ u[:, :3], found.left), (roots[1] @ v.T[:, :3], found.right)):
        assert np.cos(scipy.linalg.subspace_angles(expected, one.double().numpy())).min() > 0.99


def test_the_shrinkage_suits_the_rows_for_each_dimension():
    """Far apart in few of many directions: with few rows the canonical directions of a small shrinkage are noise."""
    centers = 0.3 * torch.randn(16, 400)
    hidden = torch.randint(16, (1600,))
    a, b = centers[hidden] + torch.randn(2, 1600, 400)
    assert mi_bound(a, b, 32, quantizer="canonical").bound > 0.8 * math.log(16)


def test_canonical_finds_what_is_shared_among_louder_noise():
    a, b, truth = gaussian(2000, 2, 0.95)
    a, b = (torch.cat([z, 3 * torch.randn(2000, 20)], dim=1) for z in (a, b))
    assert mi_bound(a, b, 16).bound < 0.1 * truth
    assert 0.5 * truth < mi_bound(a, b, 16, quantizer="canonical").bound < truth


def test_canonical_uses_every_coordinate_if_none_is_shared():
    _, member_of = fit_canonical(torch.randn(400, 3), torch.randn(400, 3), 8)
    assert len(member_of.unique()) == 8


@pytest.mark.parametrize("options", [{"quantizer": "canonical"}, {"bound": "contrastive"}])
def test_no_singular_values_are_taken_in_float32(options, monkeypatch):
    """LAPACK's float32 iteration raised on a finite matrix of size 64, of which 24 singular values were about 1."""
    svd = torch.linalg.svd

    def as_seen(matrix):
        if matrix.dtype == torch.float32:
            raise torch.linalg.LinAlgError("failed to converge")
        return svd(matrix)

    monkeypatch.setattr(torch.linalg, "svd", as_seen)
    z = torch.randn(300, 16, generator=torch.Generator().manual_seed(0))
    assert mi_bound(z, z, 8, **options).bound > 0.3
