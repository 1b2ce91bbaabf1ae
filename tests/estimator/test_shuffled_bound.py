import pytest
import torch

from lightning_mi.estimator.shuffled_bound import null_bound, shuffle_partners


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
        near_duplicates = torch.cat([torch.arange(300), some])
        found = null_bound(z_a, z_b, near_duplicates, num_clusters=16, seed=seed)
        assert found.bound > 5 * found.stderr
        assert found.bound > 0.1
        kept = null_bound(z_a, z_b, near_duplicates, num_clusters=16, groups=near_duplicates, seed=seed)
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


def test_clusters_move_together_and_none_to_itself():
    generator = torch.Generator().manual_seed(0)
    near_duplicates = torch.randint(-20, 20, (100,), generator=generator)
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


def test_of_very_many_rows_whole_clusters_are_left_out():
    rows, partners = shuffle_partners(torch.arange(400) // 3, seed=0, max_rows=100)
    assert 97 < len(rows) <= 100
    assert all(size in (1, 3) for size in (rows // 3).unique(return_counts=True)[1].tolist())
    assert torch.isin(partners, rows).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"near_duplicates": torch.zeros(50)}, "`near_duplicates` must be an integer tensor"),
        ({"near_duplicates": torch.zeros(50, dtype=torch.int64)}, "at least 2 different clusters"),
        ({"near_duplicates": torch.arange(49)}, "`near_duplicates` must have one entry a row"),
        ({"z_a": torch.full((50, 8), torch.nan)}, "`z_a` must be finite"),
        ({"num_clusters": 40}, "at most the number of pairs"),
        ({"groups": torch.zeros(50, dtype=torch.int64)}, "`groups` must hold at least 2"),
    ],
)
def test_errors(change, message):
    z_a, z_b = gaussian(50)
    arguments = {"z_a": z_a, "z_b": z_b, "near_duplicates": torch.arange(50), "num_clusters": 4} | change
    with pytest.raises((TypeError, ValueError), match=message):
        null_bound(**arguments)
