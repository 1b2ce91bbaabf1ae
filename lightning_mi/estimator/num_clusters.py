"""Number of clusters K for a number of pairs."""

from __future__ import annotations

import math

FIT_PAIRS_PER_CLUSTER = 4  # below that a cluster is its own points, and the bound falls to nothing
_PAIRS_PER_CLUSTER = 32
_FEWEST, _MOST = 4, 128


def default_num_clusters(num_pairs: int) -> int:
    """Default K: one cluster for each 32 pairs, a power of two from 4 to 128.

    On speech models the bound was about highest there, and correlated about best with phone and speaker accuracy,
    from 128 to 1500 pairs; with one for each 8 pairs it was about half (``examples/model_selection``).

    Example:
        >>> [default_num_clusters(num_pairs) for num_pairs in (4096, 1400, 300, 50)]
        [128, 32, 8, 4]
    """
    return min(_MOST, max(_FEWEST, _power_of_two(num_pairs // _PAIRS_PER_CLUSTER)))


def capped_num_clusters(num_clusters: int, num_pairs: int) -> int:
    """``num_clusters``, or fewer if pairs are few.

    Fewer is a power of two, so that one pair more or less from epoch to epoch changes nothing.

    Example:
        >>> capped_num_clusters(128, num_pairs=1024), capped_num_clusters(128, num_pairs=700)
        (128, 64)
    """
    most = max(1, num_pairs // 2 // FIT_PAIRS_PER_CLUSTER)
    return num_clusters if num_clusters <= most else _power_of_two(most)


def _power_of_two(number: int) -> int:
    """The highest that is not above ``number``; 1 at least."""
    return 2 ** int(math.log2(max(1, number)))
