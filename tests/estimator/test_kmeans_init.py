"""k-means|| initialisation against k-means++ of scikit-learn."""

import pytest
import torch
from sklearn.cluster import kmeans_plusplus

from lightning_mi.estimator.kmeans_init import seed_centers
from tests.helpers.draws import blobs


def cost(x, centers):
    return torch.cdist(x.double(), centers.double()).min(dim=1).values.square().sum().item()


def test_one_center_in_each_of_separate_blobs():
    x = blobs(400, 3, 5, spread=100.0)
    assert all(cost(x, seed_centers(x, 5, seed)) < 400 * 3 * 2 for seed in range(20))


@pytest.mark.parametrize("num", [300, 5000])  # all points are candidates; some are
def test_better_than_plain_kmeans_plus_plus(num):
    x = torch.randn(num, 6)
    theirs = [cost(x, torch.from_numpy(kmeans_plusplus(x.numpy(), 20, random_state=i)[0])) for i in range(5)]
    ours = [cost(x, seed_centers(x, 20, seed)) for seed in range(5)]
    assert sum(ours) < sum(theirs)


def test_no_more_centers_than_different_points():
    x = torch.tensor([[0.0], [1.0], [1.0], [2.0]])
    assert sorted(seed_centers(x, 4, seed=0)[:, 0].tolist()) == [0.0, 1.0, 2.0]
    assert seed_centers(torch.full((3000, 2), 7.0), 40, seed=0).tolist() == [[7.0, 7.0]]


def test_weights_count_the_points_behind_a_candidate():
    """Many candidates in a sparse cloud must not pull the centres away from most of the points."""
    x = torch.cat([torch.randn(4900, 2), 50 * torch.randn(100, 2)])
    assert cost(x, seed_centers(x, 1, seed=0)) == pytest.approx(cost(x, x.mean(dim=0, keepdim=True)), rel=0.05)


def test_same_bits_again_and_another_seed_is_another_start():
    x = torch.randn(2000, 5)
    state = torch.get_rng_state()
    assert torch.equal(seed_centers(x, 30, seed=3), seed_centers(x, 30, seed=3))
    assert not torch.equal(seed_centers(x, 30, seed=3), seed_centers(x, 30, seed=4))
    assert torch.equal(torch.get_rng_state(), state)
