"""Properties of the split, over random groups."""

import pytest
import torch

from lightning_mi.estimator.folds import cut_near, folds, order_by_group


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("num_groups", [2, 3, 10, 200])
def test_no_group_stands_on_two_sides(seed, num_groups):
    groups = torch.randint(num_groups, (500,))
    groups[:num_groups] = torch.arange(num_groups)
    groups = groups[order_by_group(groups, seed)]
    scored = []
    for fold in folds(groups):
        fit, score = groups[fold.fit], groups[fold.score]
        assert len(fit) + len(score) == 500
        assert not torch.isin(fit, score).any()
        assert not torch.isin(fit[: fold.num_train], fit[fold.num_train :]).any()
        assert fold.num_train == len(fit) if len(fit.unique()) == 1 else 0 < fold.num_train < len(fit)
        scored += range(500)[fold.score]
    assert sorted(scored) == list(range(500))


def test_the_split_depends_only_on_the_names_of_the_groups():
    groups = torch.randint(-(2**62), 2**62, (100,))
    shuffle = torch.randperm(100)
    assert torch.equal(groups[order_by_group(groups, 3)], groups[shuffle][order_by_group(groups[shuffle], 3)])
    assert not torch.equal(order_by_group(groups, 3), order_by_group(groups, 4))


def test_leaving_out_one_group_moves_few_others():
    groups = torch.arange(1000)
    first, second = (
        set(ordered[folds(ordered)[0].fit].tolist())
        for ordered in (some[order_by_group(some, 0)] for some in (groups, groups[groups != 17]))
    )
    assert len(first ^ second) <= 2


def test_halves_are_even():
    sizes = [fold.fit.stop - fold.fit.start for fold in folds(torch.arange(1001))]
    assert sorted(sizes) == [500, 501]


def test_validation_rows_are_at_most_4096():
    fold = folds(torch.arange(200_000))[0]
    assert fold.fit.stop - fold.fit.start - fold.num_train == 4096


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_cut_is_the_nearest_boundary_by_brute_force(share):
    groups = torch.repeat_interleave(torch.arange(30), torch.randint(1, 9, (30,)))
    boundaries = [row for row in range(1, len(groups)) if groups[row] != groups[row - 1]]
    distances = [abs(row - share * len(groups)) for row in boundaries]
    assert abs(cut_near(groups, share) - share * len(groups)) == pytest.approx(min(distances), abs=1e-4)
    assert cut_near(groups, share) in boundaries


def test_one_group_is_an_error():
    with pytest.raises(ValueError, match="`groups` must hold at least 2 different groups, got 1 in 5 rows"):
        cut_near(torch.zeros(5), 0.5)
