import pytest
import torch

from lightning_mi.estimator.knn_probe import fit_nearest
from lightning_mi.estimator.pca_quantizer import fit_whitening
from lightning_mi.estimator.shuffled_bound import _shuffled, null_bound


def gaussian(count, dim=8, noise=0.3, seed=0):
    """Pairs that share most of what they are."""
    generator = torch.Generator().manual_seed(seed)
    z, a, b = torch.randn(3, count, dim, generator=generator)
    return z + noise * a, z + noise * b


def mixture(count, classes=20, seed=0):
    generator = torch.Generator().manual_seed(seed)
    member_of = torch.randint(classes, (count,), generator=generator)
    centres = 3 * torch.randn(classes, 16, generator=generator)
    return tuple(centres[member_of] + 0.3 * torch.randn(count, 16, generator=generator) for _ in range(2))


@pytest.mark.parametrize("draw", [gaussian, mixture])
def test_nothing_is_found_where_there_are_no_copies(draw):
    for seed in range(20):
        found = null_bound(*draw(300, seed=seed), torch.arange(300), num_clusters=16, seed=seed)
        assert found.bound <= 3 * found.stderr
        assert found.bound < 0.02


def test_utterances_with_several_pairs():
    for seed in range(10):
        z_a, z_b = (z.repeat_interleave(4, dim=0) for z in gaussian(100, seed=seed))
        z_a = z_a + 0.1 * torch.randn(400, 8, generator=torch.Generator().manual_seed(seed))
        utterances = torch.arange(400) // 4
        found = null_bound(z_a, z_b, utterances, num_clusters=16, groups=utterances, seed=seed)
        assert found.bound <= 3 * found.stderr
        assert found.num_groups == 100


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_copies_are_found_unless_groups_keep_them_together(share):
    for seed in range(5):
        z_a, z_b = gaussian(300, seed=seed)
        some = torch.arange(round(300 * share))
        z_a, z_b = torch.cat([z_a, z_a[some] + 0.03]), torch.cat([z_b, z_b[some] + 0.03])
        families = torch.cat([torch.arange(300), some])
        found = null_bound(z_a, z_b, families, num_clusters=16, seed=seed)
        assert found.bound > 5 * found.stderr
        assert found.bound > 0.1
        kept = null_bound(z_a, z_b, families, num_clusters=16, groups=families, seed=seed)
        assert kept.bound <= 3 * kept.stderr


@pytest.mark.parametrize("state", ["constant", "one cluster and a few", "rank one"])
def test_collapsed_embeddings_have_no_null(state):
    for seed in range(5):
        z_a, z_b = gaussian(200, seed=seed)
        if state == "rank one":
            z_a, z_b = z_a[:, :1].expand(-1, 8), z_b[:, :1].expand(-1, 8)
        else:
            z_b = torch.where(torch.arange(200)[:, None] < (0 if state == "constant" else 5), z_b, 0.0)
            z_a = z_a if seed % 2 else torch.zeros_like(z_a)
        found = null_bound(z_a, z_b, torch.arange(200), num_clusters=16, seed=seed)
        assert found.bound <= max(1e-3, 3 * found.stderr)
        assert state != "constant" or found.bound == 0


def test_families_move_together_and_none_to_itself():
    generator = torch.Generator().manual_seed(0)
    families = torch.randint(-20, 20, (100,), generator=generator)
    rows, partners = _shuffled(families, seed=3)
    assert sorted(rows.tolist()) == list(range(100))
    given = {}
    for row, partner in zip(rows.tolist(), partners.tolist(), strict=True):
        given.setdefault(int(families[row]), set()).add(partner)
    assert all(len(each) == 1 for each in given.values())
    sources = [int(families[each.pop()]) for each in given.values()]
    assert sorted(sources) == sorted(given)  # each gives to one other
    assert all(source != family for source, family in zip(sources, given, strict=True))
    assert not torch.equal(partners, _shuffled(families, seed=4)[1])


def test_of_very_many_rows_whole_families_are_left_out(monkeypatch):
    monkeypatch.setattr("lightning_mi.estimator.shuffled_bound._MOST_ROWS", 100)
    z_a, z_b = gaussian(400)
    found = null_bound(z_a, z_b, torch.arange(400) // 3, num_clusters=4)
    assert 90 < found.num_pairs <= 100
    rows, _ = _shuffled(torch.arange(400) // 3, seed=0)
    assert all(size in (1, 3) for size in (rows // 3).unique(return_counts=True)[1].tolist())


def test_the_nearest_of_another_group_by_brute_force():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(120, 5, generator=generator)
    groups, classes = torch.arange(120) // 2, torch.randint(3, (120,), generator=generator)
    probe = fit_nearest(z, classes, 3, groups)
    points = fit_whitening(z)(z)
    table = torch.cdist(points, points)
    table[groups[:, None] == groups] = torch.inf
    shares = torch.tensor([0.01, 0.02, 0.05, 0.1, 0.25, 0.5])
    torch.testing.assert_close(probe.edges, table.amin(dim=1).sort().values[(shares * 120).long()])
    # What it says is a distribution.
    query = torch.randn(7, 5, generator=generator)
    total = sum((probe.log_ratio(query, torch.full((7,), c)) + probe.marginal[c].log()).exp() for c in range(3))
    torch.testing.assert_close(total, torch.ones(7, dtype=torch.float64))
    # A class that it has not met is not said, and costs what was laid on the others.
    other = fit_nearest(z, classes, 4, groups)
    torch.testing.assert_close(
        other.log_ratio(query, torch.full((7,), 3)).exp(),
        1 - other.weights[torch.bucketize(torch.cdist(fit_whitening(z)(query), points).amin(dim=1), other.edges)],
    )
    # It hears of no class by its own row alone.
    lonely = fit_nearest(z, torch.arange(120), 120, torch.zeros(120, dtype=torch.int64))
    assert float(lonely.weights.max()) < 1e-6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"families": torch.zeros(50)}, "`families` must be an integer tensor"),
        ({"families": torch.zeros(50, dtype=torch.int64)}, "at least 2 different families"),
        ({"families": torch.arange(49)}, "`families` must have one entry a row"),
        ({"z_a": torch.full((50, 8), torch.nan)}, "`z_a` must be finite"),
        ({"num_clusters": 40}, "at most the number of rows"),
        ({"groups": torch.zeros(50, dtype=torch.int64)}, "`groups` must hold at least 2"),
    ],
)
def test_errors(change, message):
    z_a, z_b = gaussian(50)
    arguments = {"z_a": z_a, "z_b": z_b, "families": torch.arange(50), "num_clusters": 4} | change
    with pytest.raises((TypeError, ValueError), match=message):
        null_bound(**arguments)
