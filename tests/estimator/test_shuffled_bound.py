"""The shuffled bound is 0 without copies and above 0 with them; the shuffle against its definition."""

import pytest
import torch

from lightning_mi.estimator.shuffled_bound import null_bound, shuffle_partners
from tests.helpers.draws import gaussian, mixture


@pytest.mark.parametrize("draw", [lambda: gaussian(300, 8, 0.9), lambda: mixture(300, 16, 20, spread=10.0)])
def test_the_bound_is_zero_within_its_error_without_copies(draw):
    for seed in range(20):
        a, b, _ = draw()
        found = null_bound(a, b, torch.arange(300), num_clusters=16, seed=seed)
        assert found.bound <= 3 * found.stderr
        assert found.bound < 0.02


def test_several_pairs_of_an_utterance_are_no_leak():
    for seed in range(10):
        z_a, z_b = (z.repeat_interleave(4, dim=0) for z in gaussian(100, 8, 0.9)[:2])
        z_a = z_a + 0.1 * torch.randn(400, 8)
        utterances = torch.arange(400) // 4
        found = null_bound(z_a, z_b, utterances, num_clusters=16, groups=utterances, seed=seed)
        assert found.bound <= 3 * found.stderr
        assert found.num_groups == 100
        # The probe does not rely on neighbours of the same utterance, which no scored row has.
        assert found.scores.totals.sum() / found.num_pairs > -0.05


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_copies_are_found_unless_groups_keep_them_together(share):
    for seed in range(5):
        z_a, z_b, _ = gaussian(300, 8, 0.9)
        some = torch.arange(round(300 * share))
        z_a, z_b = torch.cat([z_a, z_a[some] + 0.03]), torch.cat([z_b, z_b[some] + 0.03])
        near_duplicates = torch.cat([torch.arange(300), some])
        found = null_bound(z_a, z_b, near_duplicates, num_clusters=16, seed=seed)
        assert found.bound > 5 * found.stderr
        assert found.bound > 0.1
        kept = null_bound(z_a, z_b, near_duplicates, num_clusters=16, groups=near_duplicates, seed=seed)
        assert kept.bound <= 3 * kept.stderr


@pytest.mark.parametrize("state", ["constant", "one cluster and a few", "rank one"])
def test_collapsed_embeddings_are_no_leak(state):
    for seed in range(5):
        z_a, z_b, _ = gaussian(200, 8, 0.9)
        if state == "rank one":
            z_a, z_b = z_a[:, :1].expand(-1, 8), z_b[:, :1].expand(-1, 8)
        else:
            z_b = torch.where(torch.arange(200)[:, None] < (0 if state == "constant" else 5), z_b, 0.0)
            z_a = z_a if seed % 2 else torch.zeros_like(z_a)
        found = null_bound(z_a, z_b, torch.arange(200), num_clusters=16, seed=seed)
        assert found.bound <= max(1e-3, 3 * found.stderr)
        assert state != "constant" or found.bound == 0


def test_a_cluster_gets_one_partner_from_another_cluster():
    near_duplicates = torch.randint(-20, 20, (100,))
    rows, partners = shuffle_partners(near_duplicates, seed=3)
    assert sorted(rows.tolist()) == list(range(100))
    given = {}
    for row, partner in zip(rows.tolist(), partners.tolist(), strict=True):
        given.setdefault(int(near_duplicates[row]), set()).add(partner)
    assert all(len(each) == 1 for each in given.values())
    sources = [int(near_duplicates[each.pop()]) for each in given.values()]
    assert sorted(sources) == sorted(given)  # each gives to one other
    assert all(source != cluster for source, cluster in zip(sources, given, strict=True))
    assert not torch.equal(partners, shuffle_partners(near_duplicates, seed=4)[1])


def test_above_the_maximum_of_rows_whole_clusters_are_left_out():
    rows, partners = shuffle_partners(torch.arange(400) // 3, seed=0, max_rows=100)
    assert 97 < len(rows) <= 100
    assert all(size in (1, 3) for size in (rows // 3).unique(return_counts=True)[1].tolist())
    assert torch.isin(partners, rows).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"near_duplicates": torch.zeros(50)}, "`near_duplicates` must be an integer tensor"),
        ({"near_duplicates": torch.zeros(50, dtype=torch.int64)}, "at least 2 different clusters"),
        ({"near_duplicates": torch.arange(49)}, "`near_duplicates` must have one entry for each row"),
        ({"z_a": torch.full((50, 8), torch.nan)}, "`z_a` must be finite"),
        ({"num_clusters": 40}, "at most the number of pairs"),
        ({"groups": torch.zeros(50, dtype=torch.int64)}, "`groups` must hold at least 2"),
    ],
)
def test_bad_input_is_named(change, message):
    z_a, z_b, _ = gaussian(50, 8, 0.9)
    arguments = {"z_a": z_a, "z_b": z_b, "near_duplicates": torch.arange(50), "num_clusters": 4} | change
    with pytest.raises((TypeError, ValueError), match=message):
        null_bound(**arguments)
