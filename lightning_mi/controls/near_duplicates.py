"""Which utterances share sound: families of copies, found by their sketches."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_mi.controls.fingerprints import NO_NUMBER

_SHARED = 8  # numbers of two sketches that make them copies
_NEIGHBOURS = 4  # others with the same number that each is compared with; more are met through these
_LARGEST = 16  # utterances: where all share some sound, there still have to be many families


def group_near_duplicates(names: Tensor, sketches: Tensor) -> tuple[Tensor, Tensor]:
    """Put utterances that share sound into one family.

    Two are linked if they share 8 of at most 64 numbers. Links are taken from the strongest on, and one that would
    make a family of more than 16 is left out.

    Args:
        names: ``(N,)`` int64, different names of the utterances.
        sketches: ``(N, 64)`` int64, see :func:`lightning_mi.controls.fingerprints.fingerprint`.

    Returns:
        ``(N,)`` int64, the least name in each one's family, and the links ``(L, 2)`` int64, positions of two
        utterances each. The order of the rows changes neither.

    Example:
        >>> import torch
        >>> a, b = torch.arange(64), torch.arange(64, 128)
        >>> mixed = torch.cat([a[:10], b[:54]])
        >>> families, links = group_near_duplicates(torch.tensor([7, 5, 9]), torch.stack([a, mixed, b + 1000]))
        >>> families.tolist(), links.tolist()
        ([5, 5, 9], [[0, 1]])
    """
    order = names.argsort()
    pairs, shared = _pairs(sketches[order])
    pairs, shared = pairs[shared >= _SHARED], shared[shared >= _SHARED]
    strongest = shared.argsort(descending=True, stable=True)
    families = [{position} for position in range(len(names))]
    for a, b in pairs[strongest].tolist():
        if families[a] is not families[b] and len(families[a]) + len(families[b]) <= _LARGEST:
            families[a] |= families[b]
            for position in families[b]:
                families[position] = families[a]
    least = torch.tensor([min(family) for family in families], dtype=torch.int64)
    found = torch.empty_like(names)
    found[order] = names[order][least]
    return found, order[pairs].sort(dim=1).values


def _pairs(sketches: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of rows that share numbers, ``(P, 2)``, the lower row first, and how many they share, ``(P,)``."""
    rows = torch.arange(len(sketches)).repeat_interleave(sketches.shape[1])
    numbers = sketches.flatten()
    rows, numbers = rows[numbers != NO_NUMBER], numbers[numbers != NO_NUMBER]
    numbers, order = numbers.sort(stable=True)
    rows = rows[order]
    pairs = []
    for distance in range(1, _NEIGHBOURS + 1):
        same = numbers[distance:] == numbers[:-distance]
        pairs.append(torch.stack([rows[:-distance][same], rows[distance:][same]], dim=1))
    unique, shared = torch.cat(pairs).unique(dim=0, return_counts=True)
    return unique, shared
