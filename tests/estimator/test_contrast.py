"""The contrast against its definition, its limits, and its influence against leaving rows out."""

import math

import pytest
import torch

from lightning_mi.estimator.contrast import contrast
from lightning_mi.estimator.group_scores import standard_error


def draw(num=200, classes=5, sharpness=2.0):
    """Classes, and probabilities that know something of them."""
    hidden = torch.randint(classes, (num,))
    logits = sharpness * torch.nn.functional.one_hot(hidden, classes) + torch.randn(num, classes)
    return logits.double().softmax(dim=1), hidden


def definition(q, classes):
    """mean_i log( q(c_i | z_i) / mean_j q(c_i | z_j) ), one row at a time."""
    terms = [math.log(q[i][c] / (sum(row[c] for row in q) / len(q))) for i, c in enumerate(classes)]
    return sum(terms) / len(terms)


def test_the_mean_is_the_multi_sample_bound():
    q, classes = draw(60)
    assert contrast(q, classes).mean().item() == pytest.approx(definition(q.tolist(), classes.tolist()), abs=1e-12)


@pytest.mark.parametrize("sharpness", [0.0, 1.0, 5.0, 50.0])
@pytest.mark.parametrize("skew", [1.0, 20.0])
def test_between_the_plug_in_bound_and_the_plug_in_entropy(sharpness, skew):
    q, classes = draw(sharpness=sharpness)
    q = q * torch.tensor([skew, 1, 1, 1, 1])  # wrong about the shares
    q /= q.sum(dim=1, keepdim=True)
    share = torch.bincount(classes, minlength=5).double() / len(classes)
    entropy = -(share * share.log()).sum()
    plug_in = entropy + q.gather(1, classes[:, None]).log().mean()
    assert plug_in - 1e-9 <= contrast(q, classes).mean() <= entropy + 1e-9


def test_a_critic_of_noise_finds_nothing_in_expectation():
    """Wrong and sure of it: rows that are independent of their classes score below 0 on the average."""
    means = torch.stack([contrast(draw(30, sharpness=0)[0], torch.randint(5, (30,))).mean() for _ in range(400)])
    assert means.mean() < 0
    assert means.mean() < 2 * means.std() / 20


def test_scores_are_the_influence_of_their_rows():
    q, classes = draw()
    scores = contrast(q, classes)
    rows = torch.arange(len(q))
    without = torch.stack([contrast(q[rows != i], classes[rows != i]).mean() for i in rows])
    jackknife = (len(q) - 1) * (scores.mean() - without)
    assert torch.corrcoef(torch.stack([jackknife, scores - scores.mean()]))[0, 1] > 0.999
    torch.testing.assert_close(jackknife, scores - scores.mean(), atol=0.1, rtol=0.1)


def test_their_standard_error_is_the_spread_over_draws():
    torch.manual_seed(1)
    found = [contrast(*draw(sharpness=1.0)) for _ in range(400)]
    spread = torch.stack([scores.mean() for scores in found]).std().item()
    errors = [
        standard_error((scores - scores.mean()) / len(scores), torch.zeros(len(scores), dtype=torch.int64))
        for scores in found
    ]
    assert sum(errors) / len(errors) == pytest.approx(spread, rel=0.1)
