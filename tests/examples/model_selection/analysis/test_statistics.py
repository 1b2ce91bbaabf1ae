"""Correlations against scipy; regret, early stopping and the bootstrap by hand."""

import numpy as np
import pytest

pytest.importorskip("sklearn")

import scipy.stats

from lightning_mi.examples.model_selection.analysis.statistics import (
    Zoo,
    choose,
    early_stopping,
    kendall,
    partial_spearman,
    regret,
    spearman,
)


def test_correlations_agree_with_scipy():
    rng = np.random.default_rng(0)
    scores, accuracy = rng.integers(0, 6, (40, 7)).astype(float), rng.integers(0, 9, 40).astype(float)
    for column, rho, tau in zip(scores.T, spearman(scores, accuracy), kendall(scores, accuracy), strict=True):
        assert rho == pytest.approx(scipy.stats.spearmanr(column, accuracy).statistic)
        assert tau == pytest.approx(scipy.stats.kendalltau(column, accuracy).statistic)
    assert spearman(np.ones((5, 1)), np.arange(5.0)).tolist() == [0]
    assert kendall(np.full((5, 1), -np.inf), np.arange(5.0)).tolist() == [0]


def test_partial_correlation_is_that_of_the_residuals():
    rng = np.random.default_rng(0)
    other = rng.normal(size=60)
    accuracy, score = other + rng.normal(size=60), other + rng.normal(size=60)
    ranks = [scipy.stats.rankdata(x) for x in (score, accuracy, other)]
    line = np.stack([np.ones(60), ranks[2]], axis=1)
    left = [x - line @ np.linalg.lstsq(line, x, rcond=None)[0] for x in ranks[:2]]
    expected = np.corrcoef(*left)[0, 1]
    assert partial_spearman(score[:, None], accuracy, other) == pytest.approx([expected])
    assert partial_spearman(other[:, None], accuracy, other) == pytest.approx([0])


def test_regret_is_the_mean_over_those_ranked_first():
    scores = np.array([[3.0, 0.0, 1.0], [1.0, 9.0, 1.0], [2.0, 0.0, 0.0]])
    assert regret(scores, np.array([0.5, 0.7, 0.4])) == pytest.approx([0.2, 0.0, 0.1])


@pytest.mark.parametrize(
    ("values", "patience", "expected"),
    [([1, 2, 3], 1, (2, 2)), ([1, 3, 2, 4], 1, (1, 2)), ([1, 3, 2, 4], 2, (3, 3)), ([5, 5, 5], 2, (0, 2))],
)
def test_early_stopping_keeps_the_best_before_it_stops(values, patience, expected):
    assert early_stopping(np.array(values, dtype=float), patience) == expected


def zoo(num_runs=12, steps=4, seed=0):
    rng = np.random.default_rng(seed)
    quality = rng.normal(size=(num_runs, 1)) + 0.3 * np.arange(steps)
    accuracy = quality.flatten()
    scores = np.stack([accuracy + 0.1 * rng.normal(size=accuracy.shape), rng.normal(size=accuracy.shape)], axis=1)
    number = np.arange(num_runs).repeat(steps)
    return Zoo(
        runs=number,
        objectives=np.array(["a", "b"])[number % 2],
        steps=np.tile(np.arange(steps), num_runs),
        normal=number % 3 != 0,
        scores=scores,
        accuracy=accuracy,
    )


def test_bootstrap_draws_whole_runs():
    made = zoo()
    sizes = made.bootstrap(lambda drawn: np.bincount(drawn.runs, minlength=12).astype(float), times=50)
    assert set(np.unique(sizes)) <= {0, 4, 8, 12, 16, 20, 24}
    assert (sizes.sum(axis=1) == 48).all()


def test_copies_of_a_checkpoint_narrow_no_interval():
    once = zoo(steps=1)
    often = once.of_rows(np.arange(12).repeat(4))
    draws = [each.bootstrap(lambda drawn: drawn.value(spearman), times=20) for each in (once, often)]
    assert draws[0] == pytest.approx(draws[1])


def test_halves_share_no_run_and_are_stratified():
    made = zoo()
    for seed in range(5):
        half, other = made.split_runs(np.random.default_rng(seed))
        assert not set(half.runs) & set(other.runs)
        assert set(half.runs) | set(other.runs) == set(range(12))
        for side in (half, other):
            kinds = {(kind, normal) for kind, normal in zip(side.objectives, side.normal, strict=True)}
            assert len(kinds) == 4


def test_neither_half_of_few_runs_is_empty():
    made = zoo(num_runs=4)  # one of each kind: neither half is ever empty
    for seed in range(10):
        half, other = made.split_runs(np.random.default_rng(seed))
        assert len(np.unique(half.runs)) == len(np.unique(other.runs)) == 2
    with pytest.raises(ValueError, match="runs: got one"):
        made.of_runs([1]).split_runs(np.random.default_rng(0))


def test_the_best_of_some_columns_is_chosen():
    values = np.array([0.9, 0.1, 0.5, 0.4])
    assert choose(values, [1, 2, 3]) == 2
    assert choose(values, [0, 3]) == 0


def test_stopping_regret_by_hand():
    made = Zoo(
        runs=np.array([0, 0, 0, 1, 1, 1]),
        objectives=np.array(["a"] * 6),
        steps=np.array([3, 1, 2, 1, 2, 3]),  # in any order
        normal=np.array([True] * 6),
        scores=np.array([[1.0], [2.0], [3.0], [1.0], [2.0], [3.0]]),
        accuracy=np.array([0.9, 0.5, 0.8, 0.3, 0.2, 0.1]),
    )
    # Run 0 keeps step 2 (0.8 of 0.9), run 1 step 3 (0.1 of 0.3).
    assert made.stopping_regret(patience=1) == pytest.approx([0.15])


def test_correlation_within_runs_is_the_mean_over_normal_ones():
    made = zoo()
    values = [
        scipy.stats.spearmanr(made.scores[made.runs == run, 1], made.accuracy[made.runs == run]).statistic
        for run in range(12)
        if run % 3
    ]
    assert made.within_runs(spearman)[1] == pytest.approx(np.mean(values))
