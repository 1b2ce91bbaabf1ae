"""Near-duplicate clusters: utterances that share sound, found by their fingerprints."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_mi.controls.fingerprints import NO_HASH

_MIN_SHARED = 8  # hashes that two near-duplicates share
_NEIGHBOURS = 4  # others with the same hash that each utterance is compared with; more are met through these
_MAX_SIZE = 16  # utterances in a cluster: if all share some sound, there must still be many clusters


def group_near_duplicates(names: Tensor, fingerprints: Tensor) -> tuple[Tensor, Tensor]:
    """Cluster utterances that share sound (single linkage).

    Two are linked if they share 8 of at most 64 hashes. Links are taken from the strongest on, and one that would
    make a cluster of more than 16 is left out.

    Args:
        names: ``(N,)`` int64, different names of the utterances.
        fingerprints: ``(N, 64)`` int64, see :func:`lightning_mi.controls.fingerprints.fingerprint`.

    Returns:
        ``(N,)`` int64, the lowest name in each one's cluster, and the links ``(L, 2)`` int64, positions of two
        utterances each. The order of the rows changes neither.

    Example:
        >>> import torch
        >>> a, b = torch.arange(64), torch.arange(64, 128)
        >>> mixed = torch.cat([a[:10], b[:54]])
        >>> clusters, links = group_near_duplicates(torch.tensor([7, 5, 9]), torch.stack([a, mixed, b + 1000]))
        >>> clusters.tolist(), links.tolist()
        ([5, 5, 9], [[0, 1]])
    """
    order = names.argsort()
    pairs, shared = _pairs(fingerprints[order])
    pairs, shared = pairs[shared >= _MIN_SHARED], shared[shared >= _MIN_SHARED]
    strongest = shared.argsort(descending=True, stable=True)
    clusters = [{position} for position in range(len(names))]
    for a, b in pairs[strongest].tolist():
        if clusters[a] is not clusters[b] and len(clusters[a]) + len(clusters[b]) <= _MAX_SIZE:
            clusters[a] |= clusters[b]
            for position in clusters[b]:
                clusters[position] = clusters[a]
    least = torch.tensor([min(cluster) for cluster in clusters], dtype=torch.int64)
    found = torch.empty_like(names)
    found[order] = names[order][least]
    return found, order[pairs].sort(dim=1).values


def _pairs(fingerprints: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of rows that share hashes, ``(P, 2)``, the lower row first, and how many they share, ``(P,)``."""
    rows = torch.arange(len(fingerprints)).repeat_interleave(fingerprints.shape[1])
    hashes = fingerprints.flatten()
    rows, hashes = rows[hashes != NO_HASH], hashes[hashes != NO_HASH]
    hashes, order = hashes.sort(stable=True)
    rows = rows[order]
    pairs = []
    for distance in range(1, _NEIGHBOURS + 1):
        same = hashes[distance:] == hashes[:-distance]
        pairs.append(torch.stack([rows[:-distance][same], rows[distance:][same]], dim=1))
    unique, shared = torch.cat(pairs).unique(dim=0, return_counts=True)
    return unique, shared
