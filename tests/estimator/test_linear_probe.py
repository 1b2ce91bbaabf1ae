"""The probe against scikit-learn's softmax regression, and against the marginal if there is no information."""

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from lightning_mi.estimator.linear_probe import fit_probe
from tests.helpers.draws import classification, log_prob


def test_probabilities_are_the_softmax_mixed_with_the_marginal():
    z, targets = classification(300, 6, 4, noise=0.5)
    probe = fit_probe(z, targets, 4, num_train=225)
    found = probe.probabilities(z)
    softmax = probe.linear(probe.scaler.squash(z).to(found.dtype)).softmax(dim=1)
    share, weight = probe.log_prior.exp(), probe.marginal_weight
    torch.testing.assert_close(found, (1 - weight) * softmax + weight * share)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(300, dtype=found.dtype))


def test_noise_gives_the_marginal():
    targets = (torch.rand(2000) < 0.2).long()
    probe = fit_probe(torch.randn(2000, 50), targets, 2, num_train=1500)
    new = torch.randn(10_000, 50)
    cross_entropy = -log_prob(probe, new, (torch.rand(10_000) < 0.2).long()).mean()
    entropy = -(0.2 * torch.tensor(0.2).log() + 0.8 * torch.tensor(0.8).log())
    assert cross_entropy < entropy + 0.01


@pytest.mark.parametrize(
    ("num", "dim", "noise"), [(600, 40, 2.0), (600, 40, 0.5), (400, 200, 1.0), (3000, 8, 1.0)]
)
def test_as_tight_as_the_best_penalty_of_scikit_learn(num, dim, noise):
    """The penalty of the softmax regression is chosen on the very rows that are scored: a head start for it."""
    z, targets = classification(num + 2000, dim, 8, noise)
    ours = -log_prob(fit_probe(z[:num], targets[:num], 8, num_train=3 * num // 4), z[num:], targets[num:]).mean()
    theirs = min(
        -LogisticRegression(C=c, max_iter=2000)
        .fit(z[:num].numpy(), targets[:num].numpy())
        .predict_log_proba(z[num:].numpy())[range(2000), targets[num:].numpy()]
        .mean()
        for c in (1e-3, 1e-2, 1e-1, 1.0)
    )
    assert ours < theirs + 0.02


def test_softmax_regression_corrects_a_wrong_discriminant():
    """With log-normal rows the Gaussian model is wrong, and softmax regression is not."""
    z = torch.randn(4000, 2).exp()
    targets = (z @ torch.tensor([1.0, -1.0]) + 0.1 * torch.randn(4000) > 0).long()
    probe = fit_probe(z[:2000], targets[:2000], 2, num_train=1500)
    assert probe.steps > 0
    assert -log_prob(probe, z[2000:], targets[2000:]).mean() < 0.25


def test_classes_without_rows_stay_possible():
    z, targets = classification(200, 5, 3, noise=0.1)
    probe = fit_probe(z, targets, 10, num_train=150)
    assert log_prob(probe, z, torch.full((200,), 9)).min() > -30


@pytest.mark.parametrize("num_train", [0, 50])
def test_without_training_or_validation_rows_it_is_the_marginal(num_train):
    z, targets = classification(50, 5, 3, noise=0.1)
    probe = fit_probe(z, targets, 3, num_train)
    assert (probe.linear.weight == 0).all()
    share = (torch.bincount(targets, minlength=3) + 0.5) / 51.5
    torch.testing.assert_close(log_prob(probe, z, targets).float(), share.log()[targets])


@pytest.mark.parametrize("heavy", [False, True])
def test_rounding_of_the_input_barely_moves_the_prediction(heavy):
    z, targets = classification(800, 30, 6, noise=2.0)
    if heavy:  # so that softmax regression takes steps
        z = z.sign() * z.abs().exp()
    z, new, targets, labels = z[:400], z[400:], targets[:400], targets[400:]
    plain = log_prob(fit_probe(z, targets, 6, 300), new, labels).mean()
    for _ in range(5):
        probe = fit_probe(z * (1 + 1e-7 * torch.randn_like(z)), targets, 6, 300)
        rounded = log_prob(probe, new, labels).mean()
        assert abs(plain - rounded) < 1e-5


def test_works_in_inference_mode_and_builds_no_graph():
    z, targets = classification(200, 5, 3, noise=0.1)
    outside = fit_probe(z, targets, 3, num_train=150)
    with torch.inference_mode():
        inside = fit_probe(z.clone(), targets.clone(), 3, num_train=150)
    torch.testing.assert_close(outside.linear.weight, inside.linear.weight)
    assert not outside.linear.weight.requires_grad


def test_constant_and_rank_one_embeddings_are_fitted():
    targets = torch.arange(200) % 2
    constant = fit_probe(torch.ones(200, 7), targets, 2, num_train=150)
    assert torch.isfinite(log_prob(constant, torch.ones(200, 7), targets)).all()
    line = targets[:, None].float() @ torch.ones(1, 7)
    assert log_prob(fit_probe(line, targets, 2, num_train=150), line, targets).exp().min() > 0.9


def test_a_class_without_a_training_row_does_not_amplify_rounding():
    """Its direction has no length, and the slope along it must not be the quotient of two rounding errors."""
    for _ in range(20):
        z = 0.3 * torch.randn(50, 16).tanh()
        targets = torch.randint(7, (50,))
        targets[40:43] = 7  # a class without training rows
        moved = z * (1 + 3e-7 * torch.randn(z.shape))
        one, other = (log_prob(fit_probe(x, targets, 8, num_train=37), x, targets) for x in (z, moved))
        torch.testing.assert_close(one, other, atol=1e-4, rtol=0)
