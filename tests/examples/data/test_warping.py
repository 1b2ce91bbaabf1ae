"""Dynamic time warping against a search of all paths."""

import math
from functools import cache

import numpy as np
import pytest

from lightning_mi.examples.data.warping import warp


def cheapest(costs):
    """By trying every way, back from the last corner."""

    @cache
    def best(i, j):
        if i < 0 or j < 0:
            return 0.0 if i == j == -1 else math.inf
        both = best(i - 1, j - 1) + 2 * costs[i, j]
        right = best(i - 1, j - 2) + 2 * costs[i, j - 1] + costs[i, j] if j else math.inf
        down = best(i - 2, j - 1) + 2 * costs[i - 1, j] + costs[i, j] if i else math.inf
        return min(both, right, down)

    return best(costs.shape[0] - 1, costs.shape[1] - 1) / sum(costs.shape)


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (7, 7), (9, 5), (6, 11), (30, 17)])
def test_the_path_is_the_cheapest_there_is(shape):
    costs = np.random.default_rng(sum(shape)).uniform(size=shape)
    path, cost = warp(costs)
    assert cost == pytest.approx(cheapest(costs))
    assert path[0].tolist() == [0, 0] or shape == (1, 2)
    assert path[-1].tolist() == [shape[0] - 1, shape[1] - 1]
    steps = np.diff(path, axis=0)
    assert {tuple(step) for step in steps.tolist()} <= {(1, 1), (1, 0), (0, 1)}
    assert not (steps[1:].sum(axis=1) + steps[:-1].sum(axis=1) == 2).any()  # never two in a row along one axis


def test_more_than_twice_as_long_has_no_path():
    path, cost = warp(np.zeros((4, 12)))
    assert len(path) == 0
    assert cost == math.inf
