"""The pairs of one validation epoch: the embeddings of at most ``max_pairs`` anchors and their partners."""

from __future__ import annotations

import torch
from torch import Tensor


class PairStore:
    """Keeps the ``max_pairs`` pairs of the lowest priority.

    Priorities are hashes: which pairs are kept depends neither on their order nor on how they came in batches,
    and only those that may still be among them need to be encoded (bottom-k sampling; Cohen and Kaplan, PODC
    2007). A pair that comes twice is kept once. A pair that is pushed out leaves its place to the new one, so no
    more than ``max_pairs`` are ever held.

    Args:
        max_pairs: The most pairs that are held.

    Attributes:
        keys: ``(n,)`` int64 on the host, what tells pairs apart.
        priorities: ``(n,)`` int64 on the host.
        groups: ``(n,)`` int64 on the host.
        labels: For each name ``(n,)`` or ``(n, 1 + G)`` int64 on the host.

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
        self.labels: dict[str, Tensor] = {}
        self._places: dict[str, Tensor] = {}  # (places, 1 + G, D), the first n of which are taken

    def admits(self, keys: Tensor, priorities: Tensor) -> Tensor:
        """Which of ``keys`` ``(n,)`` would be kept if they came now: ``(n,)`` bool."""
        everyone = torch.cat([self.keys, keys]), torch.cat([self.priorities, priorities])
        return self._lowest(*everyone)[len(self.keys) :]

    def add(
        self,
        keys: Tensor,
        priorities: Tensor,
        groups: Tensor,
        embeddings: dict[str, Tensor],
        labels: dict[str, Tensor] | None = None,
    ) -> None:
        """Add n pairs, ``(n,)`` int64 each on the host, and, for each layer, embeddings ``(n, 1 + G, D)`` of the
        anchor and its partners, on any device; with the same names of ``labels`` each time.

        Raises:
            ValueError: If G or D differs from what was added before; nothing is added then.
        """
        for name, z in embeddings.items():
            held = self._places.get(name, z)
            if held.shape[1:] != z.shape[1:]:
                raise ValueError(
                    f"the embeddings of {name!r} must have the same shape in all batches, got "
                    f"{tuple(z.shape[1:])} after {tuple(held.shape[1:])}."
                )
        held_before = len(self.keys)
        kept = self._lowest(torch.cat([self.keys, keys]), torch.cat([self.priorities, priorities]))
        new = torch.nonzero(kept[held_before:])[:, 0]
        left = torch.nonzero(~kept[:held_before])[:, 0]
        places = torch.cat([left, torch.arange(held_before, held_before + len(new) - len(left))])

        def put(own: Tensor, theirs: Tensor) -> Tensor:
            own = torch.cat([own, theirs.new_empty(len(new) - len(left), *theirs.shape[1:])])
            own[places] = theirs[new]
            return own

        self.keys, self.priorities = put(self.keys, keys), put(self.priorities, priorities)
        self.groups = put(self.groups, groups)
        for name, numbers in (labels or {}).items():
            self.labels[name] = put(self.labels.get(name, numbers[:0]), numbers)
        for name, z in embeddings.items():
            self._make_room(name, z)
            self._places[name][places.to(z.device)] = z[new.to(z.device)]

    def keep(self, keys: Tensor, priorities: Tensor) -> None:
        """Drop the pairs that are not among the ``max_pairs`` of lowest priority of these m, ``(m,)`` int64 each,
        which may hold those of other processes too."""
        self.drop(~torch.isin(self.keys, keys[self._lowest(keys, priorities)]))

    def drop(self, unwanted: Tensor) -> None:
        """Drop the pairs where ``unwanted`` ``(n,)``, bool on the host, is true."""
        if not bool(unwanted.any()):
            return
        rows = torch.nonzero(~unwanted)[:, 0]
        self.keys, self.priorities, self.groups = self.keys[rows], self.priorities[rows], self.groups[rows]
        self.labels = {name: numbers[rows] for name, numbers in self.labels.items()}
        for name, places in self._places.items():
            self._places[name] = places[rows.to(places.device)]

    def embeddings(self, name: str) -> Tensor | None:
        """Embeddings ``(n, 1 + G, D)`` of a layer; ``None`` before anything was added."""
        places = self._places.get(name)
        return None if places is None else places[: len(self.keys)]

    def forget(self, name: str) -> None:
        """Drop the embeddings of a layer, and keep the pairs."""
        self._places.pop(name, None)

    @property
    def names(self) -> list[str]:
        """Of the layers."""
        return list(self._places)

    def _lowest(self, keys: Tensor, priorities: Tensor) -> Tensor:
        """Mask ``(n,)`` of the ``max_pairs`` different keys of lowest priority; of equal keys the first."""
        first = _first_of_each(keys)
        mask = torch.zeros(len(keys), dtype=torch.bool)
        mask[first[priorities[first].argsort(stable=True)[: self._max_pairs]]] = True
        return mask

    def _make_room(self, name: str, z: Tensor) -> None:
        needed, old = len(self.keys), self._places.get(name)
        if old is not None and len(old) >= needed:
            return
        # By doubling: each row is moved about once, and few pairs take little room.
        count = min(self._max_pairs, max(needed, 0 if old is None else 2 * len(old)))
        places = z.new_empty(count, *z.shape[1:])
        if old is not None:
            places[: len(old)] = old
        self._places[name] = places


def _first_of_each(values: Tensor) -> Tensor:
    """Positions of the first occurrence of each value in ``(n,)``, ascending."""
    ordered, order = values.sort(stable=True)
    starts = torch.ones(len(values), dtype=torch.bool)
    starts[1:] = ordered[1:] != ordered[:-1]
    return order[starts].sort().values
