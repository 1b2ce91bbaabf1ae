"""The pairs of one validation epoch: the embeddings of at most ``max_pairs`` utterances, chosen by hash."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_mi.hashing import mix


class PairStore:
    """Keeps the ``max_pairs`` utterances of the lowest priority, a hash of the utterance and the seed.

    Which ones are kept depends neither on their order nor on how they came in batches, and only utterances
    that may still be among them need to be encoded (bottom-k sampling; Cohen and Kaplan, PODC 2007). An
    utterance that comes twice is kept once.

    Args:
        max_pairs: The most utterances that are held.
        seed: Any integer.

    Example:
        >>> import torch
        >>> store = PairStore(max_pairs=2, seed=0)
        >>> store.add(torch.arange(5), torch.arange(5), {"output": torch.randn(5, 2, 8)})
        >>> store.utterances.shape, store.embeddings("output").shape
        (torch.Size([2]), torch.Size([2, 2, 8]))
    """

    def __init__(self, max_pairs: int, seed: int) -> None:
        self._max_pairs = max_pairs
        self._seed = seed
        self.utterances = torch.empty(0, dtype=torch.int64)
        self.groups = torch.empty(0, dtype=torch.int64)
        self._embeddings: dict[str, list[Tensor]] = {}
        self._highest = torch.iinfo(torch.int64).max

    def admits(self, utterances: Tensor) -> Tensor:
        """Which of ``(n,)`` int64 utterances may be kept: ``(n,)`` bool, on the host."""
        new = ~torch.isin(utterances, self.utterances)
        return new & (mix(utterances, self._seed) <= self._highest)

    def add(self, utterances: Tensor, groups: Tensor, embeddings: dict[str, Tensor]) -> None:
        """Add utterances ``(n,)`` and groups ``(n,)``, both int64 on the host, and, for each layer, embeddings
        ``(n, 1 + G, D)`` of the anchor and its partners, on any device."""
        self.utterances = torch.cat([self.utterances, utterances])
        self.groups = torch.cat([self.groups, groups])
        for name, z in embeddings.items():
            self._embeddings.setdefault(name, []).append(z)
        if len(self.utterances) > self._max_pairs:
            self.keep(self.utterances)
            if len(self.utterances) == self._max_pairs:
                self._highest = int(mix(self.utterances, self._seed).max())

    def keep(self, candidates: Tensor) -> None:
        """Drop the utterances that are not among the ``max_pairs`` of lowest priority of ``candidates`` ``(m,)``
        int64, which may hold those of other processes too."""
        candidates = candidates.unique()
        chosen = candidates[mix(candidates, self._seed).argsort()[: self._max_pairs]]
        rows = torch.nonzero(torch.isin(self.utterances, chosen))[:, 0]
        rows = rows[_first_of_each(self.utterances[rows])]
        self._select(rows)

    def drop(self, unwanted: Tensor) -> None:
        """Drop the rows where ``unwanted`` ``(n,)``, bool on the host, is true."""
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
        if len(rows) == len(self.utterances):
            return
        self.utterances, self.groups = self.utterances[rows], self.groups[rows]
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
