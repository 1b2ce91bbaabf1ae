import pytest
import torch

from lightning_mi.estimator.bound import _halves
from lightning_mi.estimator.split import cut_near, order_by_group


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("num_groups", [2, 3, 10, 200])
def test_no_group_stands_on_two_sides(seed, num_groups):
    groups = torch.randint(num_groups, (500,))
    groups[:num_groups] = torch.arange(num_groups)
    scored = []
    for fit_rows, held_out, score_rows in _halves(groups, seed):
        assert sorted([*fit_rows.tolist(), *score_rows.tolist()]) == list(range(500))
        assert not torch.isin(groups[fit_rows], groups[score_rows]).any()
        assert not torch.isin(groups[fit_rows][held_out], groups[fit_rows][~held_out]).any()
        scored.append(score_rows)
    assert sorted(torch.cat(scored).tolist()) == list(range(500))


def test_split_depends_on_the_names_of_the_groups_alone():
    groups = torch.randint(-(2**62), 2**62, (100,))
    shuffle = torch.randperm(100)
    assert torch.equal(groups[order_by_group(groups, 3)], groups[shuffle][order_by_group(groups[shuffle], 3)])
    assert not torch.equal(order_by_group(groups, 3), order_by_group(groups, 4))


def test_leaving_out_one_group_moves_few_others():
    groups = torch.arange(1000)
    first = {int(g) for g in groups[next(iter(_halves(groups, 0)))[0]]}
    fewer = groups[groups != 17]
    second = {int(g) for g in fewer[next(iter(_halves(fewer, 0)))[0]]}
    assert len(first ^ second) <= 2


def test_halves_are_even():
    sizes = [len(fit) for fit, _, _ in _halves(torch.arange(1001), 0)]
    assert sorted(sizes) == [500, 501]


def test_one_group_is_refused():
    with pytest.raises(ValueError, match="`groups` must hold at least 2 different groups, got 1 in 5 rows"):
        cut_near(torch.zeros(5), 0.5)
