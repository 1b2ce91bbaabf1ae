"""The pairs of one validation epoch: the embeddings of at most ``max_pairs`` anchors and their partners."""

from __future__ import annotations

import torch
from torch import Tensor


class PairStore:
    """Keeps the ``max_pairs`` pairs of the lowest priority.

    Priorities are hashes: which pairs are kept depends neither on their order nor on how they came in batches,
    and only those that may still be among them need to be encoded (bottom-k sampling; Cohen and Kaplan, PODC
    2007). A pair that comes twice is kept once.

    Args:
        max_pairs: The most pairs that are held.

    Attributes:
        keys: ``(n,)`` int64 on the host, what tells pairs apart.
        priorities: ``(n,)`` int64 on the host.
        groups: ``(n,)`` int64 on the host.

    Example:
        >>> import torch
        >>> store, five = PairStore(max_pairs=2), torch.arange(5)
        >>> store.add(five, 10 - five, five, {"output": torch.randn(5, 2, 8)})
        >>> store.keys.tolist(), store.embeddings("output").shape
        ([3, 4], torch.Size([2, 2, 8]))
    """

    def __init__(self, max_pairs: int) -> None:
        self._max_pairs = max_pairs
        self.keys = torch.empty(0, dtype=torch.int64)
        self.priorities = torch.empty(0, dtype=torch.int64)
        self.groups = torch.empty(0, dtype=torch.int64)
        self._embeddings: dict[str, list[Tensor]] = {}
        self._highest = torch.iinfo(torch.int64).max

    def admits(self, keys: Tensor, priorities: Tensor) -> Tensor:
        """Which of n pairs, ``(n,)`` int64 each, may be kept: ``(n,)`` bool, on the host."""
        return ~torch.isin(keys, self.keys) & (priorities <= self._highest)

    def add(self, keys: Tensor, priorities: Tensor, groups: Tensor, embeddings: dict[str, Tensor]) -> None:
        """Add n pairs, ``(n,)`` int64 each on the host, and, for each layer, embeddings ``(n, 1 + G, D)`` of the
        anchor and its partners, on any device.

        Raises:
            ValueError: If G or D differs from what was added before; nothing is added then.
        """
        for name, z in embeddings.items():
            held = self._embeddings.get(name, [z])[0]
            if held.shape[1:] != z.shape[1:]:
                raise ValueError(
                    f"the embeddings of {name!r} must have the same shape in all batches, got "
                    f"{tuple(z.shape[1:])} after {tuple(held.shape[1:])}."
                )
        self.keys = torch.cat([self.keys, keys])
        self.priorities = torch.cat([self.priorities, priorities])
        self.groups = torch.cat([self.groups, groups])
        for name, z in embeddings.items():
            self._embeddings.setdefault(name, []).append(z)
        if len(self.keys) > self._max_pairs:
            self.keep(self.keys, self.priorities)
            if len(self.keys) == self._max_pairs:
                self._highest = int(self.priorities.max())

    def keep(self, keys: Tensor, priorities: Tensor) -> None:
        """Drop the pairs that are not among the ``max_pairs`` of lowest priority of these m, ``(m,)`` int64 each,
        which may hold those of other processes too."""
        first = _first_of_each(keys)
        keys, priorities = keys[first], priorities[first]
        chosen = keys[priorities.argsort(stable=True)[: self._max_pairs]]
        rows = torch.nonzero(torch.isin(self.keys, chosen))[:, 0]
        self._select(rows[_first_of_each(self.keys[rows])])

    def drop(self, unwanted: Tensor) -> None:
        """Drop the pairs where ``unwanted`` ``(n,)``, bool on the host, is true."""
        self._select(torch.nonzero(~unwanted)[:, 0])

    def embeddings(self, name: str) -> Tensor | None:
        """Embeddings ``(n, 1 + G, D)`` of a layer; ``None`` before anything was added."""
        parts = self._embeddings.get(name)
        if parts is None:
            return None
        if len(parts) > 1:
            self._embeddings[name] = parts = [torch.cat(parts)]
        return parts[0]

    def _select(self, rows: Tensor) -> None:
        if len(rows) == len(self.keys):
            return
        self.keys, self.priorities, self.groups = self.keys[rows], self.priorities[rows], self.groups[rows]
        for name in self._embeddings:
            z = self.embeddings(name)
            assert z is not None
            self._embeddings[name] = [z[rows.to(z.device)]]


def _first_of_each(values: Tensor) -> Tensor:
    """Positions of the first occurrence of each value in ``(n,)``, ascending."""
    ordered, order = values.sort(stable=True)
    starts = torch.ones(len(values), dtype=torch.bool)
    starts[1:] = ordered[1:] != ordered[:-1]
    return order[starts].sort().values
