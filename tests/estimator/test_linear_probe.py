import itertools

import pytest
import torch
import torch.nn.functional as F
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from lightning_mi.estimator.lda import _falling, discriminant, held_out_temperature, moments
from lightning_mi.estimator.linear import LinearMap
from lightning_mi.estimator.linear_probe import fit_probe
from lightning_mi.estimator.softmax_regression import descend


def task(num, dim, classes, noise):
    targets = torch.randint(classes, (num,))
    z = F.one_hot(targets, classes).float() @ torch.randn(classes, dim) + noise * torch.randn(num, dim)
    return z, targets


@pytest.mark.parametrize("dim", [3, 12])
def test_without_shrinkage_it_is_scikit_learns_discriminant(dim):
    x, targets = task(500, dim, 6, noise=1.0)
    model = discriminant(moments(x, targets, 6).spread(), shrinkage=0.0)
    rank = model.means.shape[1]
    logits = model.linear(torch.ones(rank), torch.tensor(1.0))(model.project(x))
    reference = LinearDiscriminantAnalysis(solver="lsqr").fit(x.numpy(), targets.numpy())
    theirs = torch.tensor(reference.predict_log_proba(x.numpy()))
    # scikit-learn's priors have no pseudo-rows.
    priors = torch.tensor(reference.priors_).log()
    ours = (logits.double() - model.log_prior + priors).log_softmax(dim=1)
    torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=2e-3)


def test_canonical_coordinates_are_white():
    x, targets = task(2000, 10, 4, noise=1.0)
    model = discriminant(moments(x, targets, 4).spread(), shrinkage=0.0)
    y = model.project(x)
    torch.testing.assert_close(y.T @ y / 2000, torch.eye(3), atol=1e-3, rtol=0)
    inside = y - torch.stack([y[targets == k].mean(dim=0) for k in range(4)])[targets]
    torch.testing.assert_close(inside.T @ inside / 2000, torch.diag(model.within), atol=1e-3, rtol=0)


def test_moments_of_parts_add_up():
    x, targets = task(500, 200, 6, noise=1.0)
    parts = moments(x[:123], targets[:123], 6) + moments(x[123:], targets[123:], 6)
    torch.testing.assert_close(parts.gram, (x.double().T @ x.double()), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(parts.sums, F.one_hot(targets, 6).double().T @ x.double(), rtol=1e-4, atol=1e-3)


def test_falling_is_isotonic_regression():
    above, below = torch.rand(40, dtype=torch.float64), torch.rand(40, dtype=torch.float64) + 0.1
    theirs = IsotonicRegression(increasing=False).fit_transform(range(40), above / below, sample_weight=below)
    torch.testing.assert_close(_falling(above, below), torch.tensor(theirs), rtol=1e-6, atol=1e-6)


def test_temperature_is_the_best_on_a_fine_grid():
    scores, targets = 3 * torch.randn(300, 5), torch.randint(5, (300,))
    scores[torch.arange(300), targets] += 2.0
    log_prior = torch.full((5,), 0.2).log()
    grid = torch.linspace(0, 10, 2001)
    losses = torch.stack([F.cross_entropy(log_prior + t * scores, targets) for t in grid])
    chosen = held_out_temperature(scores, log_prior, targets)
    assert abs(chosen - grid[losses.argmin()]) < 0.01
    assert held_out_temperature(-scores, log_prior, targets) == 0


@pytest.mark.parametrize("penalty", [0.1, 0.01])
def test_descent_ends_at_scikit_learns_solution(penalty):
    x, targets = task(400, 12, 5, noise=1.0)
    start = LinearMap(torch.zeros(12, 5), torch.zeros(5))
    *_, last = descend(x, targets, start, torch.ones(13, 5), torch.zeros(5, 12), penalty)
    # The bias is penalised as well: for scikit-learn it is one more feature.
    y = torch.cat([x, torch.ones(400, 1)], dim=1)
    reference = LogisticRegression(C=1 / (penalty * 400), fit_intercept=False, tol=1e-10, max_iter=5000)
    reference.fit(y.double().numpy(), targets.numpy())

    def objective(theta):
        return F.cross_entropy(y.double() @ theta, targets) + penalty / 2 * theta.square().sum()

    ours = objective(torch.cat([last.weight, last.bias[None]]).double())
    assert ours - objective(torch.tensor(reference.coef_.T)) < 1e-5


def test_every_step_of_the_descent_lowers_the_loss_in_blocks_too(monkeypatch):
    x, targets = task(400, 12, 5, noise=1.0)
    start, centers = LinearMap(torch.zeros(12, 5), torch.zeros(5)), torch.randn(5, 12)
    whole = [
        step
        for step, _ in zip(descend(x, targets, start, torch.ones(13, 5), centers, 0.0), range(6), strict=False)
    ]
    losses = [step.cross_entropy(x, targets).mean() for step in whole]
    assert all(after < before for before, after in itertools.pairwise(losses))
    monkeypatch.setattr("lightning_mi.estimator.linear._BLOCK", 37 * 5)
    parts = [
        step
        for step, _ in zip(descend(x, targets, start, torch.ones(13, 5), centers, 0.0), range(6), strict=False)
    ]
    torch.testing.assert_close(parts[-1].weight, whole[-1].weight, rtol=1e-2, atol=1e-3)


def test_log_prob_is_normalised_and_matches_softmax():
    z, targets = task(300, 6, 4, noise=0.5)
    probe = fit_probe(z, targets, 4, num_inner=225)
    total = sum(probe.log_prob(z, torch.full((300,), c)).exp() for c in range(4))
    torch.testing.assert_close(total, torch.ones(300, dtype=total.dtype))


def test_noise_makes_the_probe_say_the_marginal():
    targets = (torch.rand(2000) < 0.2).long()
    probe = fit_probe(torch.randn(2000, 50), targets, 2, num_inner=1500)
    new = torch.randn(10_000, 50)
    cross_entropy = -probe.log_prob(new, (torch.rand(10_000) < 0.2).long()).mean()
    entropy = -(0.2 * torch.tensor(0.2).log() + 0.8 * torch.tensor(0.8).log())
    assert cross_entropy < entropy + 0.01


@pytest.mark.parametrize(
    ("num", "dim", "noise"), [(600, 40, 2.0), (600, 40, 0.5), (400, 200, 1.0), (3000, 8, 1.0)]
)
def test_as_tight_as_the_best_penalty_of_scikit_learn(num, dim, noise):
    """The penalty of the softmax regression is chosen on the very rows that are scored: a head start for it."""
    z, targets = task(num + 2000, dim, 8, noise)
    ours = -fit_probe(z[:num], targets[:num], 8, num_inner=3 * num // 4).log_prob(z[num:], targets[num:]).mean()
    theirs = min(
        -LogisticRegression(C=c, max_iter=2000)
        .fit(z[:num].numpy(), targets[:num].numpy())
        .predict_log_proba(z[num:].numpy())[range(2000), targets[num:].numpy()]
        .mean()
        for c in (1e-3, 1e-2, 1e-1, 1.0)
    )
    assert ours < theirs + 0.02


def test_polish_corrects_a_wrong_model():
    """Where one class lies around another's tail, the discriminant is wrong and softmax regression is not."""
    z = torch.randn(4000, 2).exp()
    targets = (z @ torch.tensor([1.0, -1.0]) + 0.1 * torch.randn(4000) > 0).long()
    probe = fit_probe(z[:2000], targets[:2000], 2, num_inner=1500)
    assert probe.steps > 0
    assert -probe.log_prob(z[2000:], targets[2000:]).mean() < 0.25


def test_classes_without_rows_stay_possible():
    z, targets = task(200, 5, 3, noise=0.1)
    probe = fit_probe(z, targets, 10, num_inner=150)
    assert probe.log_prob(z, torch.full((200,), 9)).min() > -30


@pytest.mark.parametrize("num_inner", [0, 50])
def test_no_choice_gives_the_marginal(num_inner):
    z, targets = task(50, 5, 3, noise=0.1)
    probe = fit_probe(z, targets, 3, num_inner)
    assert (probe.linear.weight == 0).all()
    share = (torch.bincount(targets, minlength=3) + 0.5) / 51.5
    torch.testing.assert_close(probe.log_prob(z, targets).float(), share.log()[targets])


@pytest.mark.parametrize("heavy", [False, True])
def test_rounding_of_the_input_stays_rounding(heavy):
    z, targets = task(800, 30, 6, noise=2.0)
    if heavy:  # so that the polish has something to do
        z = z.sign() * z.abs().exp()
    z, new, targets, labels = z[:400], z[400:], targets[:400], targets[400:]
    plain = fit_probe(z, targets, 6, 300).log_prob(new, labels).mean()
    for _ in range(5):
        rounded = fit_probe(z * (1 + 1e-7 * torch.randn_like(z)), targets, 6, 300).log_prob(new, labels).mean()
        assert abs(plain - rounded) < 1e-5


def test_works_in_inference_mode_and_builds_no_graph():
    z, targets = task(200, 5, 3, noise=0.1)
    outside = fit_probe(z, targets, 3, num_inner=150)
    with torch.inference_mode():
        inside = fit_probe(z.clone(), targets.clone(), 3, num_inner=150)
    torch.testing.assert_close(outside.linear.weight, inside.linear.weight)
    assert not outside.linear.weight.requires_grad


def test_constant_and_rank_one_features():
    targets = torch.arange(200) % 2
    constant = fit_probe(torch.ones(200, 7), targets, 2, num_inner=150)
    assert torch.isfinite(constant.log_prob(torch.ones(200, 7), targets)).all()
    line = targets[:, None].float() @ torch.ones(1, 7)
    assert fit_probe(line, targets, 2, num_inner=150).log_prob(line, targets).exp().min() > 0.9


def test_a_class_without_a_row_to_fit_leaves_nothing_to_rounding():
    """Its direction has no length, and the slope along it must not be one number over another that are both 0."""
    for _ in range(20):
        z = 0.3 * torch.randn(50, 16).tanh()
        targets = torch.randint(7, (50,))
        targets[40:43] = 7  # of which the first rows, that are fitted, have none
        moved = z * (1 + 3e-7 * torch.randn(z.shape))
        one, other = (fit_probe(x, targets, 8, num_inner=37).log_prob(x, targets) for x in (z, moved))
        torch.testing.assert_close(one, other, atol=1e-4, rtol=0)
