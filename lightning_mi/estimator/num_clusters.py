"""Number of clusters K: the default for a number of pairs, and its cap."""

from __future__ import annotations

import math

FIT_PAIRS_PER_CLUSTER = 4  # with fewer, clusters are single points and the bound drops to 0
_FIT_PAIRS_PER_HELD_CLUSTER = 2  # below which a K that was used before is given up
_PAIRS_PER_CLUSTER = 32
_FEWEST, MOST_CLUSTERS = 4, 128


def default_num_clusters(num_pairs: int) -> int:
    """Default K: one cluster for each 32 pairs, a power of two from 4 to 128.

    On speech models, from 128 to 1500 pairs, this K gave about the highest bound and about the highest correlation
    with phone and speaker accuracy; one cluster for each 8 pairs gave about half the bound
    (``examples/model_selection``).

    Example:
        >>> [default_num_clusters(num_pairs) for num_pairs in (4096, 1400, 300, 50)]
        [128, 32, 8, 4]
    """
    return min(MOST_CLUSTERS, max(_FEWEST, _power_of_two(num_pairs // _PAIRS_PER_CLUSTER)))


def capped_num_clusters(num_clusters: int, num_pairs: int, held: bool = False) -> int:
    """``num_clusters``, or fewer if there are too few pairs: at least 4 pairs to fit for each cluster.

    A lowered K is a power of two, so that it stays the same if a few pairs come or go between epochs. A K that is
    ``held`` from an earlier epoch is kept down to 2 pairs, since bounds of different K cannot be compared.

    Example:
        >>> capped_num_clusters(128, num_pairs=1024), capped_num_clusters(128, num_pairs=700)
        (128, 64)
        >>> capped_num_clusters(128, num_pairs=1021), capped_num_clusters(128, num_pairs=1021, held=True)
        (64, 128)
    """
    to_fit = num_pairs // 2
    if held and num_clusters * _FIT_PAIRS_PER_HELD_CLUSTER <= to_fit:
        return num_clusters
    most = max(1, to_fit // FIT_PAIRS_PER_CLUSTER)
    return num_clusters if num_clusters <= most else _power_of_two(most)


def _power_of_two(number: int) -> int:
    """The largest power of two that is at most ``number``; at least 1."""
    return 2 ** int(math.log2(max(1, number)))
