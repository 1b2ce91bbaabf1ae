"""L-BFGS against the solutions of scikit-learn and of torch."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression

from lightning_mi.estimator.linear import LinearMap
from lightning_mi.estimator.softmax_regression import lbfgs
from tests.helpers.draws import classification


@pytest.mark.parametrize("penalty", [0.1, 0.01])
def test_it_ends_at_scikit_learns_solution(penalty):
    x, targets = classification(400, 12, 5, noise=1.0)
    start = LinearMap(torch.zeros(12, 5), torch.zeros(5))
    *_, last = lbfgs(x, targets, start, torch.ones(13, 5), torch.zeros(5, 12), penalty)
    # The bias is penalised as well: for scikit-learn it is one more feature.
    y = torch.cat([x, torch.ones(400, 1)], dim=1)
    reference = LogisticRegression(C=1 / (penalty * 400), fit_intercept=False, tol=1e-10, max_iter=5000)
    reference.fit(y.double().numpy(), targets.numpy())

    def objective(theta):
        return F.cross_entropy(y.double() @ theta, targets) + penalty / 2 * theta.square().sum()

    ours = objective(torch.cat([last.weight, last.bias[None]]).double())
    assert ours - objective(torch.tensor(reference.coef_.T)) < 1e-5


def test_every_step_lowers_the_loss():
    x, targets = classification(400, 12, 5, noise=1.0)
    start, centers = LinearMap(torch.zeros(12, 5), torch.zeros(5)), torch.randn(5, 12)
    path = itertools.islice(lbfgs(x, targets, start, torch.ones(13, 5), centers, 0.0), 6)
    losses = [F.cross_entropy(step(x), targets) for step in path]
    assert all(after < before for before, after in itertools.pairwise(losses))


def test_rows_in_several_blocks_give_torchs_own_solution():
    """More rows than one block of logits holds, against torch's L-BFGS on all of them at once."""
    x, targets = classification(3000, 4, 300, noise=1.0)
    start = LinearMap(torch.zeros(4, 300), torch.zeros(300))
    *_, last = itertools.islice(lbfgs(x, targets, start, torch.ones(5, 300), torch.zeros(300, 4), 0.1), 60)
    weight, bias = torch.zeros(4, 300, requires_grad=True), torch.zeros(300, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def objective():
        penalty = 0.05 * (weight.square().sum() + bias.square().sum())
        return F.cross_entropy(x @ weight + bias, targets) + penalty

    def closure():
        solver.zero_grad()
        loss = objective()
        loss.backward()
        return loss

    solver.step(closure)
    with torch.no_grad():
        theirs = float(objective())
        weight.copy_(last.weight), bias.copy_(last.bias)
        assert float(objective()) < theirs + 1e-4
