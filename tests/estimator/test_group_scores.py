"""Standard errors against numpy's and over draws; paired differences; what a checkpoint holds."""

import io
import math

import numpy as np
import pytest
import scipy.stats
import torch

from lightning_mi import mi_bound
from lightning_mi.estimator.contrast import contrast
from lightning_mi.estimator.group_scores import GroupScores, clustered_stderr, significance_factor, standard_error
from tests.helpers.draws import gaussian


def pairs(num, rho, extra):
    """Pairs, and a second partner of each that has ``extra`` more noise."""
    a, good, _ = gaussian(num, 4, rho)
    return a, good, good + extra * torch.randn(num, 4)


def test_gain_is_the_difference_of_the_bounds():
    a, good, bad = pairs(1000, 0.95, 0.3)
    first, second = mi_bound(a, good, 8), mi_bound(a, bad, 8)
    gain, stderr = first.gain_over(second)
    assert gain == pytest.approx(first.bound - second.bound)
    assert second.gain_over(first) == pytest.approx((-gain, stderr))
    assert first.gain_over(first) == (0.0, 0.0)


def test_error_of_a_gain_is_its_spread_and_below_that_of_unpaired_bounds():
    """Two views of the same pairs, the second a little worse: what they share cancels in the difference."""
    gains, errors, unpaired = [], [], []
    for _ in range(40):
        a, good, bad = pairs(600, 0.9, 0.1)
        first, second = mi_bound(a, good, 4), mi_bound(a, bad, 4)
        gain, stderr = first.gain_over(second)
        gains.append(gain)
        errors.append(stderr)
        unpaired.append(math.hypot(first.stderr, second.stderr))
    assert 0.7 < np.sqrt(np.mean(np.square(errors))) / np.std(gains, ddof=1) < 1.6
    assert np.median(errors) < np.median(unpaired)


def test_only_common_groups_are_compared():
    a, good, bad = pairs(1000, 0.95, 0.3)
    first, second = mi_bound(a, good, 8), mi_bound(a[:800], bad[:800], 8)
    common = torch.isin(first.scores.groups, second.scores.groups)
    mine = first.scores.totals[common].sum() / 800
    gain, stderr = first.gain_over(second)
    assert gain == pytest.approx(float(mine - second.scores.totals.sum() / 800))
    assert stderr > 0


def test_too_few_common_groups_are_an_error():
    a, good, _ = pairs(100, 0.95, 0.3)
    first = mi_bound(a, good, 2)
    second = mi_bound(a, good, 2, groups=torch.arange(99, 199))
    with pytest.raises(ValueError, match="at least 2 groups that are in both estimates, got 1 of 100 and 100"):
        first.gain_over(second)


def test_scores_of_a_group_add_up():
    groups = torch.tensor([5, 5, 3, 9, 9, 9])
    scores = GroupScores.of_rows(groups, torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), middle=3)
    assert scores.groups.tolist() == [5, 3, 9]
    assert scores.totals.tolist() == [3, 3, 15]
    assert scores.counts.tolist() == [2, 1, 3]
    assert scores.halves.tolist() == [0, 0, 1]


def test_errors_are_the_cluster_robust_ones_of_numpy():
    """Liang and Zeger's: residuals from the half's mean, added up in each group; each half has its own number."""
    groups = torch.repeat_interleave(torch.arange(80), torch.randint(1, 6, (80,)))
    x = torch.randn(80, dtype=torch.float64)[groups] + torch.randn(len(groups), dtype=torch.float64)
    middle = int((groups < 40).sum())
    scores = GroupScores.of_rows(groups, x, middle)
    halves = (np.arange(len(groups)) >= middle).astype(int)
    means = np.array([x.numpy()[halves == half].mean() for half in (0, 1)])
    residuals = np.bincount(groups.numpy(), weights=x.numpy() - means[halves])
    in_half = np.arange(80) >= 40
    squares = sum(40 / 39 * np.square(residuals[in_half == half]).sum() for half in (False, True))
    within = math.sqrt(squares) / len(groups)
    sizes = np.bincount(halves) / len(groups)
    between = math.sqrt(np.square(sizes).sum() / 2) * abs(means[0] - means[1])
    assert scores.stderr_of_scoring() == pytest.approx(within)
    assert scores.stderr() == pytest.approx(max(within, between))


def test_error_of_few_groups_is_right_on_average():
    """With 2 and 3 groups in the halves the variance is that over draws; 5 / 4 in both is 3 / 4 of it."""
    halves = torch.tensor([0, 0, 1, 1, 1])
    x = torch.randn(20_000, 5, dtype=torch.float64)
    means = torch.stack([x[:, :2].mean(dim=1), x[:, 2:].mean(dim=1)], dim=1)
    errors = [standard_error(row, halves) for row in (x - means[:, halves]) / 5]
    assert np.mean(np.square(errors)) == pytest.approx(1 / 5, rel=0.04)


def test_a_half_of_one_group_takes_the_variance_of_the_other():
    influence = torch.tensor([0.0, 0.3, -0.3], dtype=torch.float64)
    assert standard_error(influence, torch.tensor([0, 1, 1])) == pytest.approx(math.sqrt(3 * 0.18))
    assert standard_error(influence[:2] * 0, torch.tensor([0, 1])) == 0.0


@pytest.mark.parametrize("groups", [1, 3, 4, 5, 6, 7, 10, 23, 200])
def test_the_factor_is_the_quantile_of_student_t(groups):
    wanted = scipy.stats.t.ppf(scipy.stats.norm.cdf(2), max(1, groups - 2))
    assert significance_factor(groups) == pytest.approx(wanted, abs=1e-6)


def test_the_factor_of_many_groups_is_2():
    assert significance_factor(10**6) == pytest.approx(2, abs=0.003)


def test_groups_of_the_contrast_are_pseudo_values_of_leaving_them_out():
    """A group among few moves the mean of q: leaving it out, by hand."""
    groups = torch.tensor([4] * 30 + [2] * 50 + [7] * 40)
    q = (2 * torch.randn(3, 5)[[0] * 30 + [1] * 50 + [2] * 40] + torch.randn(120, 5)).double().softmax(dim=1)
    classes = torch.multinomial(q, 1)[:, 0]
    whole = contrast(q, classes).mean()
    found = GroupScores.of_rows(groups, contrast(q, classes, groups), middle=120)
    pseudo = []
    for name in found.groups:
        rest = groups != name
        pseudo.append(120 * whole - rest.sum() * contrast(q[rest], classes[rest]).mean())
    pseudo = torch.stack(pseudo)
    assert found.totals.sum() / 120 == pytest.approx(float(whole))
    expected = pseudo - pseudo.sum() / 120 * found.counts
    torch.testing.assert_close(found.totals - whole * found.counts, expected)


def test_error_of_independent_rows_is_that_of_a_mean():
    x = torch.randn(1000, dtype=torch.float64)
    influence = (x - x.mean()) / 1000
    same = torch.zeros(2, dtype=torch.float64)
    halves = torch.arange(1000) % 2
    error = clustered_stderr(influence, halves, same, torch.tensor([500.0, 500.0], dtype=torch.float64))
    assert error == pytest.approx(float(x.std() / math.sqrt(1000)), rel=1e-3)
    apart = torch.tensor([0.0, 1.0], dtype=torch.float64)
    assert clustered_stderr(influence, halves, apart, torch.tensor([500.0, 500.0]).double()) == pytest.approx(0.5)


def test_compact_scores_of_a_large_validation_set_give_nearly_the_same_gain():
    a, good, bad = pairs(20_000, 0.9, 0.5)
    first, second = mi_bound(a, good, 8), mi_bound(a, bad, 8)
    whole, stderr = second.gain_over(first)
    some, some_stderr = second.scores.gain_over(first.scores.compact())
    assert len(first.scores.compact().groups) <= 4096
    assert abs(some - whole) < 4 * some_stderr
    assert stderr < some_stderr < 4 * stderr


def test_compact_scores_are_every_nth_group_in_float32():
    scores = GroupScores.of_rows(torch.arange(1000), torch.randn(1000, dtype=torch.float64), middle=500)
    compact = scores.compact(max_groups=300)
    assert compact.groups.tolist() == list(range(0, 1000, 4))
    np.testing.assert_array_equal(compact.totals.numpy(), scores.totals.numpy()[::4].astype(np.float32))
    assert compact.halves.tolist() == [0] * 125 + [1] * 125
    assert len(scores.compact(max_groups=1000).groups) == 1000


def test_compact_scores_of_few_groups_give_the_same_gain():
    a, good, bad = pairs(500, 0.9, 0.5)
    first, second = mi_bound(a, good, 8), mi_bound(a, bad, 8)
    assert second.scores.gain_over(first.scores.compact()) == pytest.approx(second.gain_over(first), abs=1e-5)


def test_state_gives_the_same_gain_and_17_bytes_a_group():
    a, good, bad = pairs(20_000, 0.9, 0.5)
    compact, other = mi_bound(a, good, 8).scores.compact(), mi_bound(a, bad, 8).scores
    file = io.BytesIO()
    torch.save(compact.state(), file)
    assert file.tell() < 17 * 4096 + 3000
    file.seek(0)
    assert other.gain_over(GroupScores.from_state(torch.load(file, weights_only=True))) == other.gain_over(compact)


def test_the_difference_of_scores_is_scored_like_any_other():
    generator = torch.Generator().manual_seed(0)
    groups = torch.arange(300) // 3
    first, second = (GroupScores.of_rows(groups, torch.randn(300, generator=generator), 150) for _ in range(2))
    difference = first.minus(second)
    gain, stderr = first.gain_over(second)
    assert float(difference.totals.sum() / difference.counts.sum()) == pytest.approx(gain)
    assert difference.stderr() == pytest.approx(stderr)
    other = GroupScores.of_rows(groups[:290], torch.ones(290), 150)
    with pytest.raises(ValueError, match="same rows, got 97 groups beside 100"):
        first.minus(other)


def test_scores_below_0_are_floored_as_the_bound_is():
    below = GroupScores.of_rows(torch.arange(10), -torch.arange(10.0), 5)
    above = GroupScores.of_rows(torch.arange(10), torch.arange(10.0), 5)
    assert above.floored() is above
    assert below.floored().totals.abs().max() == 0
    assert below.floored().counts.equal(below.counts)
