"""Near-duplicate clusters, against a brute-force search over all pairs of fingerprints."""

import pytest
import torch

from lightning_mi.controls.fingerprints import FINGERPRINT_SIZE, NO_HASH
from lightning_mi.controls.near_duplicates import group_near_duplicates


def fingerprints_of(sets):
    """``(N, 64)``, each row the numbers of a set in ascending order."""
    rows = torch.full((len(sets), FINGERPRINT_SIZE), NO_HASH)
    for row, numbers in zip(rows, sets, strict=True):
        row[: len(numbers)] = torch.tensor(sorted(numbers), dtype=torch.int64)
    return rows


def by_hand(names, sets):
    """The least name of each one's component, where those who share 8 numbers are linked."""
    least = list(names)
    for _ in names:
        for i, a in enumerate(sets):
            for j, b in enumerate(sets):
                if len(a & b) >= 8:
                    least[i] = least[j] = min(least[i], least[j])
    return least


@pytest.mark.parametrize("seed", range(3))
def test_clusters_are_the_components_of_a_brute_force_search(seed):
    generator = torch.Generator().manual_seed(seed)

    def draw(highest, count):
        return torch.randperm(highest, generator=generator)[:count].tolist()

    sets = [set(draw(10**6, 60)) for _ in range(25)]
    for source, target in zip(draw(25, 12), draw(25, 12), strict=True):
        sets[target] |= set(sorted(sets[source])[: int(torch.randint(4, 14, (), generator=generator))])
        sets[target] = set(sorted(sets[target])[:FINGERPRINT_SIZE])
    names = draw(1000, 25)
    expected = by_hand(names, sets)
    assert len(set(expected)) < 25
    clusters, links = group_near_duplicates(torch.tensor(names), fingerprints_of(sets))
    assert clusters.tolist() == expected
    linked = {(i, j) for i in range(25) for j in range(i) if len(sets[i] & sets[j]) >= 8}
    assert {tuple(sorted(pair, reverse=True)) for pair in links.tolist()} == linked
    order = draw(25, 25)
    again, _ = group_near_duplicates(torch.tensor(names)[order], fingerprints_of([sets[i] for i in order]))
    assert again.tolist() == clusters[order].tolist()


def test_what_all_share_leaves_many_clusters():
    jingle = set(range(20))
    sets = [jingle | set(range(100 * i, 100 * i + 40)) for i in range(1, 201)]
    clusters, links = group_near_duplicates(torch.arange(200), fingerprints_of(sets))
    assert len(links.unique()) == 200
    assert int(clusters.unique(return_counts=True)[1].max()) <= 16
    assert len(clusters.unique()) >= 200 // 16


def test_utterances_with_nothing_in_common_are_clusters_of_their_own():
    names = torch.tensor([5, 3, 4])
    for sets in ([{1}, {2}, {3}], [set(), set(), set()], [set(range(7)), set(range(7)), set()]):
        clusters, links = group_near_duplicates(names, fingerprints_of(sets))
        assert clusters.tolist() == names.tolist()
        assert len(links) == 0
    clusters, _ = group_near_duplicates(names[:0], fingerprints_of([]))
    assert len(clusters) == 0
