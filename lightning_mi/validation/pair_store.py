"""Bottom-k store of pairs, with a typed column for everything that belongs to them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_mi.inputs.segments import anchor_numbers


class Kind(Enum):
    """What a column of a :class:`PairStore` holds for n anchors with G partners each."""

    LAYER = "embeddings of a layer, pooled as the bound wants them: (n, 1 + G, D)"
    ANCHOR_MEAN = "mean embedding of a layer over the anchor: (n, 1, D)"
    ONE_FRAME = "one frame of a layer in each segment: (n, 1 + G, D)"
    LABELS = "labels by name: (n,), or (n, 1 + G) for labels of frames"
    INPUT = "frames of the input, pooled as the model's: (n, 1 + G, D)"
    INPUT_STATISTICS = "mean and standard deviation of the input's frames: (n, 1 + G, D)"
    UTTERANCE = "hash of the utterance: (n,)"
    SPEAKER = "speaker that the batch names: (n,)"
    FINGERPRINT = "fingerprint of the utterance: (n, 64)"


class Column(NamedTuple):
    """Name of a column; columns of different kinds never collide, whatever a user calls layers and labels.

    Attributes:
        kind: What it holds.
        name: Name of the layer or of the labels; empty for the other kinds.

    Example:
        >>> Column(Kind.LAYER, "features") == Column(Kind.LABELS, "features")
        False
    """

    kind: Kind
    name: str = ""


class PairStore:
    """Keeps the ``max_pairs`` pairs of lowest priority, first pairs of all utterances before second ones.

    Priorities are hashes, so which pairs are kept depends neither on their order nor on the batches that they came
    in, and only pairs that may still be kept need to be encoded. A pair that comes twice is kept once. A pair that
    is evicted leaves its place to the new one, so no more than ``max_pairs`` are ever held.

    Args:
        max_pairs: Maximum number of pairs.
        many_pairs: Pairs beyond the first ones of their utterances are kept as long as there are no more than
            this in all. ``None``: as ``max_pairs``.

    Attributes:
        keys: ``(n,)`` int64 on the host, the identities of the pairs.
        priorities: ``(n,)`` int64 on the host.
        groups: ``(n,)`` int64 on the host.

    Source:
        Cohen and Kaplan, "Summarizing data using bottom-k sketches", PODC 2007.

    Example:
        >>> import torch
        >>> store, five, column = PairStore(max_pairs=2), torch.arange(5), Column(Kind.LAYER, "output")
        >>> store.add(five, 10 - five, five, {column: torch.randn(5, 2, 8)})
        >>> store.keys.tolist(), store[column].shape
        ([3, 4], torch.Size([2, 2, 8]))
    """

    def __init__(self, max_pairs: int, many_pairs: int | None = None) -> None:
        self._max_pairs = max_pairs
        self._many_pairs = max_pairs if many_pairs is None else min(many_pairs, max_pairs)
        self.keys = torch.empty(0, dtype=torch.int64)
        self.priorities = torch.empty(0, dtype=torch.int64)
        self.groups = torch.empty(0, dtype=torch.int64)
        self._buffers: dict[Column, Tensor] | None = None  # (capacity, ...), the first n rows of which are taken

    def admits(self, keys: Tensor, priorities: Tensor) -> Tensor:
        """Which of ``keys`` ``(n,)`` would be kept if they came now: ``(n,)`` bool."""
        everyone = torch.cat([self.keys, keys]), torch.cat([self.priorities, priorities])
        return self._bottom_k(*everyone)[len(self.keys) :]

    def add(self, keys: Tensor, priorities: Tensor, groups: Tensor, columns: Mapping[Column, Tensor]) -> None:
        """Add n pairs.

        The first call fixes the columns. A column that a later call lacks is dropped for all pairs, and one that
        only a later call has is ignored: a column is complete or it is not there.

        Args:
            keys: ``(n,)`` int64 on the host.
            priorities: ``(n,)`` int64 on the host.
            groups: ``(n,)`` int64 on the host.
            columns: ``(n, ...)`` each, on any device.

        Raises:
            ValueError: If the shape of a row differs from what was added before; nothing is added then.
        """
        buffers = dict(columns) if self._buffers is None else self._buffers
        buffers = {column: buffer for column, buffer in buffers.items() if column in columns}
        for column, buffer in buffers.items():
            if buffer.shape[1:] != columns[column].shape[1:]:
                what = column.name or column.kind.name
                raise ValueError(
                    f"the embeddings of {what!r} must have the same shape in all batches, got "
                    f"{tuple(columns[column].shape[1:])} after {tuple(buffer.shape[1:])}."
                )
        if self._buffers is None:
            buffers = {column: buffer[:0] for column, buffer in buffers.items()}
        held_before = len(self.keys)
        kept = self._bottom_k(torch.cat([self.keys, keys]), torch.cat([self.priorities, priorities]))
        new = torch.nonzero(kept[held_before:])[:, 0]
        evicted = torch.nonzero(~kept[:held_before])[:, 0]
        places = torch.cat([evicted, torch.arange(held_before, held_before + len(new) - len(evicted))])

        def put(own: Tensor, theirs: Tensor) -> Tensor:
            own = torch.cat([own, theirs.new_empty(len(new) - len(evicted))])
            own[places] = theirs[new]
            return own

        self.keys, self.priorities = put(self.keys, keys), put(self.priorities, priorities)
        self.groups = put(self.groups, groups)
        self._buffers = {}
        for column, buffer in buffers.items():
            rows = columns[column]
            self._buffers[column] = grown = self._grow(buffer, rows)
            grown[places.to(rows.device)] = rows[new.to(rows.device)]

    def keep(self, keys: Tensor, priorities: Tensor) -> None:
        """Drop the pairs that would not be kept of these m, ``(m,)`` int64 each, which may hold those of other
        processes too."""
        self.drop(~torch.isin(self.keys, keys[self._bottom_k(keys, priorities)]))

    def drop(self, unwanted: Tensor) -> None:
        """Drop the pairs for which ``unwanted`` ``(n,)``, bool on the host, is true."""
        if not bool(unwanted.any()):
            return
        rows = torch.nonzero(~unwanted)[:, 0]
        self.keys, self.priorities, self.groups = self.keys[rows], self.priorities[rows], self.groups[rows]
        self._buffers = {
            column: buffer[rows.to(buffer.device)] for column, buffer in (self._buffers or {}).items()
        }

    def __getitem__(self, column: Column) -> Tensor:
        """The rows ``(n, ...)`` of a column.

        Raises:
            KeyError: If it was never added, or is not complete.
        """
        return (self._buffers or {})[column][: len(self.keys)]

    @property
    def columns(self) -> tuple[Column, ...]:
        """The complete columns."""
        return tuple(self._buffers or ())

    def _bottom_k(self, keys: Tensor, priorities: Tensor) -> Tensor:
        """Mask ``(n,)`` of the different keys of lowest priority that are kept; of equal keys the first."""
        first = _first_of_each(keys)
        mask = torch.zeros(len(keys), dtype=torch.bool)
        of_utterances = int((anchor_numbers(priorities[first]) == 0).sum())  # which come first
        most = min(self._max_pairs, max(self._many_pairs, of_utterances))
        mask[first[priorities[first].argsort(stable=True)[:most]]] = True
        return mask

    def _grow(self, buffer: Tensor, rows: Tensor) -> Tensor:
        needed = len(self.keys)
        if len(buffer) >= needed:
            return buffer
        # By doubling: each row is moved about once, and few pairs take little room.
        grown = rows.new_empty(min(self._max_pairs, max(needed, 2 * len(buffer))), *rows.shape[1:])
        grown[: len(buffer)] = buffer
        return grown


def _first_of_each(values: Tensor) -> Tensor:
    """Positions of the first occurrence of each value in ``(n,)``, ascending."""
    ordered, order = values.sort(stable=True)
    starts = torch.ones(len(values), dtype=torch.bool)
    starts[1:] = ordered[1:] != ordered[:-1]
    return order[starts].sort().values
