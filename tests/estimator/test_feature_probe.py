"""Feature maps against their definitions, and what they add to the linear probe."""

import pytest
import torch

from lightning_mi import labeled_mi_bound
from lightning_mi.estimator.feature_probe import fit_feature_probe, quadratic_features, random_fourier_features
from lightning_mi.estimator.linear_probe import fit_probe
from tests.helpers.draws import classification, log_prob


@pytest.mark.parametrize("probe", ["quadratic", "fourier"])
def test_features_separate_the_inside_of_a_circle_from_the_outside(probe):
    z = torch.randn(2000, 3)
    labels = (z[:, :2].norm(dim=1) > 1.1774).long()  # half of the rows
    assert labeled_mi_bound(z, labels).bound < 0.02
    assert labeled_mi_bound(z, labels, probe=probe).bound > 0.3


@pytest.mark.parametrize("expand", [quadratic_features, random_fourier_features])
def test_features_of_linear_classes_cost_next_to_nothing(expand):
    """Gaussian classes of one covariance, of which the linear probe is the true model."""
    z, targets = classification(3000, 5, 3, noise=1.0)
    fit, new, seen, unseen = z[:1000], z[1000:], targets[:1000], targets[1000:]
    plain = log_prob(fit_probe(fit, seen, 3, 750), new, unseen).mean()
    found = log_prob(fit_feature_probe(fit, seen, 3, 750, expand), new, unseen).mean()
    assert found > plain - 0.02


def test_quadratic_features_are_all_products_of_two_coordinates():
    u = torch.randn(10, 4)
    expected = torch.stack([u[:, i] * u[:, j] for i in range(4) for j in range(i, 4)], dim=1)
    torch.testing.assert_close(quadratic_features(u), expected)


def test_random_fourier_features_approximate_a_gaussian_kernel():
    """2/F times the inner product of F cosines is the kernel's value (Rahimi and Recht, 2007)."""
    u = 0.5 * torch.randn(30, 4)
    found = random_fourier_features(u) @ random_fourier_features(u).T * 2 / 512
    squares = torch.cdist(u, u).square()
    width = u.shape[1]
    expected = sum(torch.exp(-squares * wave**2 / width / 2) for wave in (1.0, 3.0)) / 2
    assert (found - expected).abs().mean() < 0.06
