"""The linear discriminant against scikit-learn's, and what validation rows choose against a grid."""

import pytest
import torch
import torch.nn.functional as F
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.isotonic import IsotonicRegression

from lightning_mi.estimator.lda import (
    discriminant,
    fit_class_mean_shrinkage,
    fit_marginal_weight,
    fit_temperature,
    moments,
)
from tests.helpers.draws import classification


@pytest.mark.parametrize("dim", [3, 12])
def test_without_shrinkage_it_is_scikit_learns_discriminant(dim):
    x, targets = classification(500, dim, 6, noise=1.0)
    model = discriminant(moments(x, targets, 6).statistics(), shrinkage=0.0)
    rank = model.means.shape[1]
    logits = model.linear(torch.ones(rank), torch.tensor(1.0))(model.project(x))
    reference = LinearDiscriminantAnalysis(solver="lsqr").fit(x.numpy(), targets.numpy())
    theirs = torch.tensor(reference.predict_log_proba(x.numpy()))
    # scikit-learn's priors have no pseudo-rows.
    priors = torch.tensor(reference.priors_).log()
    ours = (logits.double() - model.log_prior + priors).log_softmax(dim=1)
    torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=2e-3)


def test_canonical_coordinates_are_white():
    x, targets = classification(2000, 10, 4, noise=1.0)
    model = discriminant(moments(x, targets, 4).statistics(), shrinkage=0.0)
    y = model.project(x)
    torch.testing.assert_close(y.T @ y / 2000, torch.eye(3), atol=1e-3, rtol=0)
    inside = y - torch.stack([y[targets == k].mean(dim=0) for k in range(4)])[targets]
    torch.testing.assert_close(inside.T @ inside / 2000, torch.diag(model.within), atol=1e-3, rtol=0)


def test_moments_of_parts_add_up():
    x, targets = classification(500, 200, 6, noise=1.0)
    parts = moments(x[:123], targets[:123], 6) + moments(x[123:], targets[123:], 6)
    torch.testing.assert_close(parts.gram, (x.double().T @ x.double()), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(parts.sums, F.one_hot(targets, 6).double().T @ x.double(), rtol=1e-4, atol=1e-3)


def test_temperature_is_the_best_on_a_fine_grid():
    scores, targets = 3 * torch.randn(300, 5), torch.randint(5, (300,))
    scores[torch.arange(300), targets] += 2.0
    log_prior = torch.full((5,), 0.2).log()
    grid = torch.linspace(0, 10, 2001)
    losses = torch.stack([F.cross_entropy(log_prior + t * scores, targets) for t in grid])
    chosen = fit_temperature(scores, log_prior, targets)
    assert abs(chosen - grid[losses.argmin()]) < 0.01
    assert fit_temperature(-scores, log_prior, targets) == 0


def test_class_mean_shrinkage_is_isotonic_regression_of_the_slopes():
    """One slope a direction, never rising, weighted by the variance of the class means along it."""
    y, targets, means = torch.randn(500, 40), torch.randint(6, (500,)), torch.rand(6, 40) + 0.1
    y = y + 0.5 * means[targets]
    expected = means[targets].double()
    above, below = (y.double() * expected).sum(dim=0), expected.square().sum(dim=0)
    theirs = IsotonicRegression(increasing=False).fit_transform(range(40), above / below, sample_weight=below)
    ours = fit_class_mean_shrinkage(y, targets, means)
    torch.testing.assert_close(ours.double(), torch.tensor(theirs).clamp(0, 1), rtol=1e-4, atol=1e-5)


def test_marginal_weight_is_the_best_on_a_fine_grid():
    log_marginal = torch.full((400,), 0.1).log()
    log_q = torch.where(torch.rand(400) < 0.3, torch.tensor(-8.0), torch.tensor(-0.3))
    grid = torch.linspace(0.001, 0.999, 999)
    likelihood = torch.logaddexp(log_q + (1 - grid[:, None]).log(), log_marginal + grid[:, None].log()).mean(dim=1)
    assert abs(fit_marginal_weight(log_q, log_marginal) - grid[likelihood.argmax()]) < 0.02
