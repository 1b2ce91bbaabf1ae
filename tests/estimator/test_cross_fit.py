"""The loop by hand: every row is scored once, by a fit to the other half."""

import numpy as np
import pytest
import torch

from lightning_mi.estimator.cross_fit import check_clusters, cross_fit, order_rows
from lightning_mi.estimator.folds import folds


def test_surprisal_is_the_entropy_of_each_half_and_scores_are_in_place():
    order, groups = order_rows("z", torch.zeros(301, 1), torch.randint(40, (301,)), seed=3)
    classes = torch.randint(5, (301,))[order]
    both = folds(groups)
    found = cross_fit(groups, 5, lambda fold, number: (classes[fold.score], groups[fold.score] + 0.5 * number))
    for number, fold in enumerate(both):
        share = np.bincount(classes[fold.score], minlength=5) / len(classes[fold.score])
        expected = -np.log(share)[classes[fold.score]]
        np.testing.assert_allclose(found.surprisal[fold.score].numpy(), expected)
        assert torch.equal(found.scores[fold.score], groups[fold.score].double() + 0.5 * number)
    assert found.middle == both[0].fit.stop
    assert found.active_classes == 5


def test_active_classes_are_those_of_the_scored_rows_averaged_over_both_halves():
    classes = torch.tensor([0, 1, 2, 4, 0, 0, 4, 4])  # 4 of 6 in the first half, 2 in the second
    found = cross_fit(torch.arange(8), 6, lambda fold, number: (classes[fold.score], torch.zeros(4)))
    assert (found.active_classes, found.num_classes) == (3, 6)


def test_a_fold_never_scores_what_it_fits():
    order, groups = order_rows("z", torch.zeros(200, 1), torch.arange(200) // 4, seed=0)
    scored = []

    def score_fold(fold, number):
        assert not set(groups[fold.fit].tolist()) & set(groups[fold.score].tolist())
        scored.extend(order[fold.score].tolist())
        return torch.zeros(fold.score.stop - fold.score.start, dtype=torch.int64), torch.zeros(1)

    cross_fit(groups, 1, score_fold)
    assert sorted(scored) == list(range(200))


def test_too_many_clusters_are_named():
    fold = folds(torch.arange(20))[0]
    check_clusters(10, fold, 20)
    with pytest.raises(ValueError, match=r"`num_clusters` must be at most .* got 11 clusters for 10 of 20 pairs"):
        check_clusters(11, fold, 20)
