"""Far more dimensions than rows: the same as in the full space, without matrices of its size."""

import pytest
import torch

from lightning_mi import mi_bound
from lightning_mi.estimator import cca_quantizer, feature_probe, lda, linear_probe, pca_quantizer
from lightning_mi.estimator.pca_quantizer import fit_whitening

USERS = (linear_probe, feature_probe, pca_quantizer, cca_quantizer)


def pairs(num_rows, dim, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(num_rows, 6, generator=generator) @ torch.randn(6, dim, generator=generator)
    return (shared + torch.randn(num_rows, dim, generator=generator) for _ in range(2))


def test_the_bound_is_that_of_the_full_space(monkeypatch):
    a, b = pairs(120, 500)
    found = mi_bound(a, b, 8)
    for user in USERS:
        monkeypatch.setattr(user, "row_space", lambda x: None)
    full = mi_bound(a, b, 8)
    assert full.bound > 0.2
    assert found.bound == pytest.approx(full.bound, abs=1e-4)


def test_whitened_coordinates_have_the_distances_of_the_full_space():
    fitted, held_out = pairs(40, 300)
    whitening = fit_whitening(fitted)
    assert whitening.directions.shape == (300, 40)
    x = whitening.scaler.squash(fitted).double()
    covariance = x.T.cov(correction=0)
    shrunk = 0.9 * covariance + 0.1 * covariance.diagonal().mean() * torch.eye(300)
    root = torch.linalg.cholesky(torch.linalg.inv(shrunk))
    expected = torch.cdist(x @ root, x @ root)
    y = whitening(fitted).double()
    torch.testing.assert_close(torch.cdist(y, y), expected, rtol=1e-4, atol=1e-4)
    # Another row is nearest to the same one.
    other = whitening.scaler.squash(held_out).double()
    nearest = torch.cdist(other @ root, x @ root).argmin(dim=1)
    assert torch.equal(torch.cdist(whitening(held_out).double(), y).argmin(dim=1), nearest)


@pytest.mark.parametrize("quantizer", ["kmeans", "whitened", "canonical"])
@pytest.mark.parametrize("probe", ["linear", "quadratic", "fourier"])
def test_no_matrix_of_all_dimensions_squared(monkeypatch, quantizer, probe):
    sizes = []
    gram = lda.gram
    for user in (lda, pca_quantizer, cca_quantizer):
        monkeypatch.setattr(user, "gram", lambda x: sizes.append(x.shape[1]) or gram(x))
    a, b = pairs(64, 2000)
    mi_bound(a, b, 4, quantizer=quantizer, probe=probe)
    assert sizes
    assert max(sizes) <= 64 + 600  # rows, and features of the probe
