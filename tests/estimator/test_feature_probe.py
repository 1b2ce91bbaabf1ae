import pytest
import torch

from lightning_mi import labeled_mi_bound
from lightning_mi.estimator.feature_probe import quadratic_features, random_fourier_features


@pytest.mark.parametrize("probe", ["quadratic", "fourier"])
def test_richer_probes_see_a_circle(probe):
    z = torch.randn(2000, 3)
    labels = (z[:, :2].norm(dim=1) > 1.1774).long()  # half of the rows
    assert labeled_mi_bound(z, labels).bound < 0.02
    assert labeled_mi_bound(z, labels, probe=probe).bound > 0.3


def test_quadratic_features_are_all_of_degree_two():
    u = torch.randn(10, 4)
    assert quadratic_features(u).shape == (10, 10)
    torch.testing.assert_close(quadratic_features(u).sum(dim=1) * 2 - u.square().sum(dim=1), u.sum(dim=1).square())


def test_random_fourier_features_approximate_a_gaussian_kernel():
    """2/F times the inner product of F cosines is the kernel's value (Rahimi and Recht, 2007)."""
    u = 0.5 * torch.randn(30, 4)
    found = random_fourier_features(u) @ random_fourier_features(u).T * 2 / 512
    squares = torch.cdist(u, u).square()
    width = u.shape[1]
    expected = sum(torch.exp(-squares * wave**2 / width / 2) for wave in (1.0, 3.0)) / 2
    assert (found - expected).abs().mean() < 0.06
