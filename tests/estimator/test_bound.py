"""The whole estimate against closed forms, and against its definition with scikit-learn's parts."""

import math

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression

from lightning_mi import labeled_mi_bound, mi_bound
from lightning_mi.estimator.folds import folds, order_by_group
from tests.helpers.draws import gaussian, mixture


@pytest.mark.parametrize(("dim", "rho"), [(1, 0.9), (2, 0.95), (4, 0.5), (8, 0.8), (2, 0.1)])
@pytest.mark.parametrize("clusters", [8, 64])
def test_gaussians_stay_below_the_truth(dim, rho, clusters):
    a, b, truth = gaussian(2000, dim, rho)
    estimate = mi_bound(a, b, num_clusters=clusters)
    assert 0 <= estimate.bound < truth + 3 * estimate.stderr
    assert estimate.bound <= estimate.entropy <= estimate.ceiling


@pytest.mark.parametrize("classes", [4, 16])
def test_mixtures_are_below_the_truth_and_above_half_of_it(classes):
    a, b, truth = mixture(2000, 6, classes, spread=4.0)
    estimate = mi_bound(a, b, num_clusters=classes)
    assert truth / 2 < estimate.bound < truth + 3 * estimate.stderr


@pytest.mark.parametrize("clusters", [4, 16, 64, 256])
def test_shuffled_pairs_share_nothing(clusters):
    a, b, _ = mixture(2000, 6, 16, spread=4.0)
    estimate = mi_bound(a, b[torch.randperm(2000)], num_clusters=clusters)
    assert estimate.bound <= 3 * estimate.stderr
    assert 0 < estimate.stderr < 0.1


def test_equals_the_definition_with_scikit_learns_parts():
    """The whole estimate, written out with scikit-learn on the same halves."""
    a, b, _ = gaussian(1600, 3, 0.9)
    estimate = mi_bound(a, b, num_clusters=8, seed=1)
    entropies, cross_entropies = [], []
    order = order_by_group(torch.arange(1600), seed=1)
    for fold in folds(order):
        fit, score = order[fold.fit], order[fold.score]
        kmeans = KMeans(8, n_init=3, random_state=0).fit(b[fit].double().numpy())
        clusters = kmeans.predict(b.double().numpy())
        probe = LogisticRegression(C=10, max_iter=1000).fit(a[fit].numpy(), clusters[fit])
        share = np.bincount(clusters[score], minlength=8) / len(score)
        entropies.append(-(share * np.log(share)).sum())
        q = probe.predict_proba(a[score].numpy())
        weights = share / q.mean(axis=0)  # the mean prediction of the contrast is the share of each cluster
        cross_entropies.append(-np.log((q * weights)[np.arange(len(score)), clusters[score]]).mean())
    assert estimate.entropy == pytest.approx(np.mean(entropies), abs=0.05)
    assert estimate.bound == pytest.approx(np.mean(entropies) - np.mean(cross_entropies), abs=0.08)


def test_standard_error_is_the_spread_over_draws():
    estimates = [mi_bound(*gaussian(800, 2, 0.9)[:2], num_clusters=8, seed=seed) for seed in range(30)]
    spread = np.std([estimate.bound for estimate in estimates], ddof=1)
    stderr = np.mean([estimate.stderr for estimate in estimates])
    assert 0.6 < stderr / spread < 1.5  # 30 draws give the spread within about 25%, at two deviations


def test_standard_error_counts_groups_not_rows():
    alone, copies = [], []
    for seed in range(10):
        a, b, _ = gaussian(500, 2, 0.9)
        alone.append(mi_bound(a, b, 8, torch.arange(500), seed=seed).stderr)
        estimate = mi_bound(a.repeat(4, 1), b.repeat(4, 1), 8, torch.arange(500).repeat(4), seed=seed)
        assert (estimate.num_groups, estimate.num_pairs) == (500, 2000)
        copies.append(estimate.stderr)
    assert np.median(copies) == pytest.approx(np.median(alone), rel=0.3)  # half as much if rows counted


def test_groups_keep_duplicates_from_leaking():
    """Copies of independent pairs have no information; a split that separates copies finds some."""
    a, b = torch.randn(100, 20).repeat(8, 1), torch.randn(100, 20).repeat(8, 1)
    groups = torch.arange(100).repeat(8)
    leaked = mi_bound(a, b, num_clusters=16, groups=torch.arange(800))
    kept, found = mi_bound(a, b, num_clusters=16, groups=groups), mi_bound(a, b, num_clusters=16)
    assert leaked.bound > 1.0
    assert kept.bound < 3 * kept.stderr
    assert found.num_groups == 100  # equal rows are one group by themselves


def test_order_of_groups_and_numbers_of_rows_change_nothing():
    a, b, _ = gaussian(600, 3, 0.8)
    groups = torch.randint(2**60, (600,))
    shuffle = torch.randperm(600)
    assert mi_bound(a, b, 16, groups) == mi_bound(a[shuffle], b[shuffle], 16, groups[shuffle])


def test_same_bits_again_and_global_random_numbers_untouched():
    a, b, _ = gaussian(600, 3, 0.8)
    state = torch.get_rng_state()
    first = mi_bound(a, b, 16)
    assert first == mi_bound(a, b, 16)
    assert first != mi_bound(a, b, 16, seed=1)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_give_the_bound_within_its_error(dtype):
    a, b, _ = gaussian(800, 2, 0.9)
    reference = mi_bound(a, b, 8)
    assert mi_bound(a.to(dtype), b.to(dtype), 8).bound == pytest.approx(reference.bound, abs=3 * reference.stderr)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_scale_and_outliers_are_harmless(scale):
    a, b, _ = mixture(1000, 6, 8, spread=4.0)
    plain = mi_bound(a, b, 8)
    assert mi_bound(a * scale, b * scale, 8).bound == pytest.approx(plain.bound, abs=0.05)
    a[3], b[3] = 1e8, -1e8
    assert mi_bound(a, b, 8).bound > 0.8 * plain.bound
    a[3] = 1e30
    assert mi_bound(a, b, 8).bound > 0.8 * plain.bound


@pytest.mark.parametrize("value", [0.0, 1.0, 1e6])
def test_collapsed_embeddings_have_a_bound_of_zero(value):
    z = torch.full((400, 5), value)
    estimate = mi_bound(z, z, num_clusters=16)
    assert (estimate.bound, estimate.entropy, estimate.active_clusters) == (0.0, 0.0, 1)


def test_rank_one_embeddings_have_a_finite_bound_below_log_k():
    line = torch.randn(800, 1) @ torch.randn(1, 16)
    assert 1.0 < mi_bound(line, line, num_clusters=8).bound < math.log(8)


def test_identical_segments_reach_the_ceiling():
    hidden = torch.arange(1200) % 10
    z = 20 * torch.eye(10)[hidden] + 0.1 * torch.randn(1200, 10)
    estimate = mi_bound(z, z, num_clusters=10)
    assert estimate.bound == pytest.approx(math.log(10), abs=0.05)
    assert estimate.ceiling == pytest.approx(math.log(10))
    assert estimate.active_clusters == 10


def test_both_sides_may_differ_in_dimension():
    a, b, truth = gaussian(800, 2, 0.9)
    assert 0.5 < mi_bound(torch.cat([a, torch.randn(800, 30)], dim=1), b, 8).bound < truth


def test_two_pairs_are_enough_for_an_estimate():
    assert mi_bound(torch.randn(2, 3), torch.randn(2, 3), num_clusters=1).bound == 0


def test_labels_reach_their_entropy():
    labels = torch.multinomial(torch.tensor([0.5, 0.25, 0.25]), 1500, replacement=True)
    z = torch.eye(3)[labels] + 0.01 * torch.randn(1500, 3)
    estimate = labeled_mi_bound(z, 7 * labels - 3)
    assert estimate.bound == pytest.approx(1.5 * math.log(2), abs=0.03)
    assert estimate.num_clusters == 3


def test_labels_below_the_truth():
    """Z = Y + Gaussian noise for a fair coin Y: I(Z; Y) by numerical integration."""
    sigma, grid = 1.0, torch.linspace(-8, 8, 20001, dtype=torch.float64)
    density = [torch.exp(-((grid - y) ** 2) / 2 / sigma**2) / math.sqrt(2 * math.pi) / sigma for y in (-1, 1)]
    mean = (density[0] + density[1]) / 2
    truth = float(torch.trapezoid(sum(0.5 * d * (d / mean).log() for d in density), grid))
    labels = torch.randint(2, (4000,))
    estimate = labeled_mi_bound(2.0 * labels[:, None] - 1 + sigma * torch.randn(4000, 1), labels)
    assert truth - 4 * estimate.stderr < estimate.bound < truth + 3 * estimate.stderr


def test_a_label_that_is_scored_but_not_fitted_costs_little():
    labels = torch.zeros(400, dtype=torch.long)
    labels[0] = 1
    estimate = labeled_mi_bound(torch.randn(400, 3), labels)
    assert 0 <= estimate.bound < 0.05


GOOD = torch.randn(100, 4)


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"z_a": GOOD.long()}, TypeError, r"`z_a` must hold floating-point embeddings, got dtype torch.int64"),
        ({"z_b": GOOD.numpy()}, TypeError, r"`z_b` must be a torch.Tensor of shape \(N, D\), got ndarray"),
        ({"z_a": GOOD[:, 0]}, ValueError, r"`z_a` must have shape \(N, D\).*got \(100,\)"),
        ({"z_b": GOOD[:, :0]}, ValueError, r"`z_b` must have shape \(N, D\) with D >= 1, got \(100, 0\)"),
        ({"z_b": GOOD[:99]}, ValueError, r"`z_a` and `z_b` must have the same number of rows, got 100 and 99"),
        (
            {"z_a": GOOD.clone().index_fill_(0, torch.tensor([3]), math.nan)},
            ValueError,
            r"`z_a` must be finite.* 1 of",
        ),
        ({"z_b": GOOD.clone().index_fill_(0, torch.tensor([3]), math.inf)}, ValueError, r"`z_b` must be finite"),
        ({"num_clusters": 0}, ValueError, r"`num_clusters` must be at least 1, got 0"),
        ({"num_clusters": 51}, ValueError, r"`num_clusters` must be at most.*got 51 clusters for 50 of 100 pairs"),
        ({"num_clusters": 8.0}, TypeError, r"`num_clusters` must be an int, got 8.0"),
        ({"num_clusters": True}, TypeError, r"`num_clusters` must be an int, got True"),
        ({"groups": torch.zeros(100)}, TypeError, r"`groups` must be an integer tensor, got dtype torch.float32"),
        ({"groups": torch.zeros(99).long()}, ValueError, r"`groups` must have one entry for each row"),
        (
            {"groups": torch.zeros(100).long()},
            ValueError,
            r"`groups` must hold at least 2 different groups, got 1",
        ),
        ({"groups": list(range(100))}, TypeError, r"`groups` must be a torch.Tensor"),
        ({"seed": 0.5}, TypeError, r"`seed` must be an int, got 0.5"),
        ({"z_a": GOOD[:1], "z_b": GOOD[:1], "num_clusters": 1}, ValueError, r"at least 2 rows"),
        ({"z_a": GOOD[:0], "z_b": GOOD[:0], "num_clusters": 1}, ValueError, r"at least 2 rows"),
    ],
)
def test_bad_input_is_named(kwargs, error, message):
    with pytest.raises(error, match=message):
        mi_bound(**({"z_a": GOOD, "z_b": GOOD, "num_clusters": 8} | kwargs))


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"labels": torch.zeros(100)}, TypeError, r"`labels` must be an integer tensor"),
        ({"labels": torch.zeros(99).long()}, ValueError, r"`labels` must have one entry for each row"),
        ({"z": GOOD.long()}, TypeError, r"`z` must hold floating-point"),
    ],
)
def test_bad_labels_are_named(kwargs, error, message):
    with pytest.raises(error, match=message):
        labeled_mi_bound(**({"z": GOOD, "labels": torch.arange(100) % 2} | kwargs))


def test_rounding_of_few_pairs_barely_moves_the_bound():
    """Another batch size or another number of threads rounds the embeddings differently."""
    generator = torch.Generator().manual_seed(0)
    voice = torch.randn(101, 3, generator=generator)
    z = 0.4 + torch.tanh(voice @ torch.randn(3, 16, generator=generator))[:, None].expand(-1, 2, -1)
    z = z + 0.1 * torch.randn(101, 2, 16, generator=generator)
    base = mi_bound(z[:, 0], z[:, 1], 8)
    for _ in range(10):
        other = z * (1 + 1e-7 * torch.randn(z.shape, generator=generator))
        moved = mi_bound(other[:, 0], other[:, 1], 8)
        assert moved.bound == pytest.approx(base.bound, abs=2e-6)
    assert base.bound > 0.5
