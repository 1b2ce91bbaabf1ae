import pytest
import torch
from sklearn.cluster import KMeans

from lightning_mi import MIBound, mi_bound
from lightning_mi.estimator.folds import folds, order_by_group
from lightning_mi.estimator.kmeans import fit_kmeans
from lightning_mi.estimator.registry import QUANTIZERS


def epochs(num=800, dim=6, count=2):
    """The same pairs in the embeddings of several epochs of a model that turns them and learns."""
    shared = torch.randn(num, dim)
    for epoch in range(count):
        turn = torch.linalg.qr(torch.randn(dim, dim)).Q
        noise = (0.8 - 0.3 * epoch) * torch.randn(2, num, dim)
        yield (shared + noise[0]) @ turn, (shared + noise[1]) @ turn


def test_the_clusters_of_an_estimate_are_those_of_each_fit():
    a, b = next(epochs())
    groups = torch.randint(10**9, (200,)).repeat(4)
    clusters = mi_bound(a, b, 8, groups, seed=3).clusters
    order = order_by_group(groups, seed=3)
    for number, fold in enumerate(folds(groups[order])):
        rows = order[fold.fit]
        assert torch.equal(clusters.members[rows].long(), fit_kmeans(b[rows], 8, 2 * 3 + number)[1])
    assert torch.equal(clusters.groups, groups)


def test_starts_where_scikit_learn_starts():
    x = torch.randn(600, 5)
    start = torch.cdist(x, x[:7]).argmin(dim=1)
    quantizer, _ = fit_kmeans(x, 7, start=start)
    points = quantizer.scaler.center_and_clip(x).double()
    means = torch.stack([points[start == c].mean(dim=0) for c in range(7)])
    theirs = KMeans(7, init=means.numpy(), n_init=1, max_iter=25, tol=0, algorithm="lloyd").fit(points.numpy())
    ours = torch.cdist(points, quantizer.centroids.double()).min(dim=1).values.square().sum().item()
    assert ours == pytest.approx(theirs.inertia_, rel=0.02)  # ours ends a little earlier


def test_lost_clusters_come_back():
    x = torch.cat([10 * i + torch.randn(100, 3) for i in range(4)])
    quantizer, member_of = fit_kmeans(x, 4, start=torch.zeros(400, dtype=torch.long))
    assert len(quantizer.centroids) == len(member_of.unique()) == 4


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_an_epoch_that_starts_where_another_ended(quantizer):
    first, second = epochs()
    before = mi_bound(*first, 8, quantizer=quantizer)
    cold = mi_bound(*second, 8, quantizer=quantizer)
    warm = mi_bound(*second, 8, quantizer=quantizer, start=before.clusters)
    assert warm != cold  # it starts elsewhere,
    assert abs(warm.bound - cold.bound) < 4 * cold.stderr  # and finds as much
    assert mi_bound(*second, 8, quantizer=quantizer, start=before.clusters) == warm
    agree = [
        (start.clusters.members[:, None] == start.clusters.members)
        .eq(before.clusters.members[:, None] == before.clusters.members)
        .float()
        .mean()
        for start in (warm, cold)
    ]
    if quantizer != "canonical":  # whose coordinates a better model changes altogether
        assert agree[0] > agree[1]


def test_nothing_scored_has_been_seen():
    """What the other half was at the epoch before, and is now, does not change how a half is fitted."""
    first, second = epochs()
    groups = torch.arange(800)
    order = order_by_group(groups, 0)
    fold = folds(groups[order])[0]
    fit, score = order[fold.fit], order[fold.score]
    other = [tuple(z.index_copy(0, score, torch.randn(len(score), 6)) for z in pair) for pair in (first, second)]
    runs = [
        mi_bound(*now, 8, start=mi_bound(*before, 8).clusters).clusters.members[fit]
        for before, now in ((first, second), other)
    ]
    assert torch.equal(*runs)


def test_clusters_of_other_pairs_are_refused():
    a, b = next(epochs())
    clusters = mi_bound(a, b, 8).clusters
    for arguments in (
        {"num_clusters": 4},
        {"num_clusters": 8, "seed": 1},
        {"num_clusters": 8, "groups": torch.arange(800) + 1},
    ):
        with pytest.raises(ValueError, match="`start` must be of the same pairs in the same order"):
            mi_bound(a, b, start=clusters, **arguments)
    with pytest.raises(ValueError, match="got one of 800 pairs, 8 clusters and seed 0 for 799, 8 and 0"):
        mi_bound(a[1:], b[1:], 8, start=clusters)


def test_the_metric_starts_afresh_with_other_pairs():
    (a, b), (more_a, more_b) = epochs()
    keys = torch.randint(10**12, (800,))
    start = MIBound(num_clusters=8)
    start.update(a, b, keys=keys)
    clusters = start.estimate().clusters

    def estimate(rows, start):
        metric = MIBound(num_clusters=8, start=start)
        metric.update(more_a[rows], more_b[rows], keys=keys[rows])
        return metric.estimate()

    everything, shuffled = torch.arange(800), torch.randperm(800)
    assert estimate(everything, clusters) == estimate(shuffled, clusters) != estimate(everything, None)
    assert estimate(everything[1:], clusters) == estimate(everything[1:], None)
