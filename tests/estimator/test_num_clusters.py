"""K against its definition, over numbers of pairs."""

import pytest

from lightning_mi.estimator.num_clusters import FIT_PAIRS_PER_CLUSTER, capped_num_clusters, default_num_clusters


@pytest.mark.parametrize("num_pairs", [1, 100, 128, 255, 256, 1000, 4096, 10**6])
def test_default_is_a_power_of_two_with_32_pairs_or_more_for_each(num_pairs):
    found = default_num_clusters(num_pairs)
    assert found in (4, 8, 16, 32, 64, 128)
    assert found in (4, 128) or 32 * found <= num_pairs < 64 * found


@pytest.mark.parametrize("num_pairs", [4, 63, 64, 700, 5000])
@pytest.mark.parametrize("wanted", [1, 7, 100, 128])
def test_cap_leaves_enough_pairs_to_fit_each_cluster(num_pairs, wanted):
    found = capped_num_clusters(wanted, num_pairs)
    assert 1 <= found <= wanted
    assert found == 1 or found * FIT_PAIRS_PER_CLUSTER <= num_pairs / 2
    if wanted * FIT_PAIRS_PER_CLUSTER <= num_pairs // 2:
        assert found == wanted
