import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression

from lightning_mi.estimator.probe import PENALTIES, _Problem, fit_probe


def task(num, dim, classes, noise):
    targets = torch.randint(classes, (num,))
    z = F.one_hot(targets, classes).float() @ torch.randn(classes, dim) + noise * torch.randn(num, dim)
    return z, targets


def objective(x, targets, classes, weight, bias, penalty):
    """The penalised likelihood, written out: half a pseudo-row of each class stands at the centre."""
    rows = F.cross_entropy(x @ weight + bias, targets, reduction="sum")
    pseudo = -0.5 * bias.log_softmax(dim=0).sum()
    return (rows + pseudo) / (len(x) + classes / 2) + penalty / 2 * weight.square().sum()


@pytest.mark.parametrize("penalty", [0.3, 0.01, 1e-3])
@pytest.mark.parametrize("scale", [1.0, 1e5])
def test_converges_to_scikit_learns_solution(penalty, scale):
    z, targets = task(400, 12, 5, noise=1.0)
    z = z * torch.logspace(0, -3, 12) * scale  # badly scaled coordinates
    problem = _Problem(z, targets, 5)
    weight, bias = problem.solve(penalty, problem.zero_weight(), problem.marginal, 1e-6)
    x = problem.scaler.standardize(z).double()
    # The pseudo-rows, given to scikit-learn as weighted rows at the centre.
    rows = torch.cat([x, torch.zeros(5, 12, dtype=torch.float64)])
    labels = torch.cat([targets, torch.arange(5)])
    weights = torch.cat([torch.ones(400), torch.full((5,), 0.5)])
    reference = LogisticRegression(C=1 / (penalty * (400 + 2.5)), tol=1e-10, max_iter=5000)
    reference.fit(rows.numpy(), labels.numpy(), sample_weight=weights.numpy())
    theirs = (torch.tensor(reference.coef_.T), torch.tensor(reference.intercept_))
    ours_loss = objective(x, targets, 5, weight.double(), bias.double(), penalty)
    theirs_loss = objective(x, targets, 5, *theirs, penalty)
    assert ours_loss - theirs_loss < 1e-5


def test_log_prob_is_normalised_and_matches_softmax():
    z, targets = task(300, 6, 4, noise=0.5)
    probe = fit_probe(z, targets, 4, torch.arange(300) % 4 == 0)
    total = sum(probe.log_prob(z, torch.full((300,), c)).exp() for c in range(4))
    torch.testing.assert_close(total, torch.ones(300, dtype=total.dtype))


def test_noise_makes_the_probe_say_the_marginal():
    targets = (torch.rand(2000) < 0.2).long()
    probe = fit_probe(torch.randn(2000, 50), targets, 2, torch.arange(2000) % 4 == 0)
    new = torch.randn(10_000, 50)
    cross_entropy = -probe.log_prob(new, (torch.rand(10_000) < 0.2).long()).mean()
    entropy = -(0.2 * torch.tensor(0.2).log() + 0.8 * torch.tensor(0.8).log())
    assert cross_entropy < entropy + 0.01


def test_penalty_is_the_best_on_held_out_rows():
    z, targets = task(600, 40, 8, noise=2.0)
    held_out = torch.arange(600) % 4 == 0
    chosen = fit_probe(z, targets, 8, held_out).penalty
    losses = {}
    inner = _Problem(z[~held_out], targets[~held_out], 8)
    for penalty in PENALTIES:
        solution = inner.solve(penalty, inner.zero_weight(), inner.marginal, 1e-6)
        losses[penalty] = -inner.probe(*solution, penalty).log_prob(z[held_out], targets[held_out]).mean().item()
    assert losses[chosen] < min(losses.values()) + 0.01
    assert max(losses.values()) > min(losses.values()) + 0.1  # the choice matters


def test_classes_without_rows_stay_possible():
    z, targets = task(200, 5, 3, noise=0.1)
    probe = fit_probe(z, targets, 10, torch.arange(200) % 4 == 0)
    assert probe.log_prob(z, torch.full((200,), 9)).min() > -30


@pytest.mark.parametrize("held_out", [torch.zeros(50, dtype=torch.bool), torch.ones(50, dtype=torch.bool)])
def test_no_choice_gives_the_marginal(held_out):
    z, targets = task(50, 5, 3, noise=0.1)
    probe = fit_probe(z, targets, 3, held_out)
    assert probe.penalty == float("inf")
    assert (probe.weight == 0).all()


def test_rounding_of_the_input_stays_rounding():
    z, targets = task(400, 30, 6, noise=2.0)
    held_out = torch.arange(400) % 4 == 0
    new, labels = task(400, 30, 6, noise=2.0)
    plain = fit_probe(z, targets, 6, held_out).log_prob(new, labels).mean()
    rounded = fit_probe(z * (1 + 1e-7 * torch.randn_like(z)), targets, 6, held_out).log_prob(new, labels).mean()
    assert abs(plain - rounded) < 2e-6


def test_works_in_inference_mode_and_builds_no_graph():
    z, targets = task(200, 5, 3, noise=0.1)
    outside = fit_probe(z, targets, 3, torch.arange(200) % 4 == 0)
    with torch.inference_mode():
        inside = fit_probe(z.clone(), targets.clone(), 3, torch.arange(200) % 4 == 0)
    torch.testing.assert_close(outside.weight, inside.weight)
    assert not outside.weight.requires_grad


def test_constant_and_rank_one_features():
    targets = torch.arange(200) % 2
    held_out = torch.arange(200) % 4 < 1
    constant = fit_probe(torch.ones(200, 7), targets, 2, held_out)
    assert torch.isfinite(constant.log_prob(torch.ones(200, 7), targets)).all()
    line = targets[:, None].float() @ torch.ones(1, 7)
    assert fit_probe(line, targets, 2, held_out).log_prob(line, targets).exp().min() > 0.9
