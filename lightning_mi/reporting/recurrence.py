"""Recurrence: how much of a validation was in one before, without which two values are not of the same data."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_SHARE = 0.5
"""If a share s of the pairs recurs, a difference of two values has at least sqrt(2 (1 - s)) times the error of one
value: below a half that is more than the error that is logged beside each."""
_ENOUGH = 64
"""The standard error of a mean of n is known to a share of 1 / sqrt(2 n - 2): to 9% of itself."""


@dataclass(frozen=True)
class Recurrence:
    """How many of a validation's pairs (or groups) were in another.

    Attributes:
        recurring: Number of those that are in both.
        total: Number of those of the smaller one.

    Example:
        >>> found = Recurrence.of(torch.arange(100), torch.arange(90, 200))
        >>> found.recurring, found.total, found.is_small, found.is_enough
        (10, 100, True, False)
    """

    recurring: int
    total: int

    @staticmethod
    def of(some: Tensor, others: Tensor) -> Recurrence:
        """The recurrence of names ``(n,)`` and ``(m,)``, int64, each once."""
        return Recurrence(int(torch.isin(some, others).sum()), min(len(some), len(others)))

    @property
    def is_small(self) -> bool:
        """Whether less than half recur: the curve then shows the choice of utterances beside the training."""
        return self.recurring < _SHARE * self.total

    @property
    def is_enough(self) -> bool:
        """Whether what recurs is enough for a paired difference with an honest error: half, or 64."""
        return not self.is_small or self.recurring >= _ENOUGH

    def text(self) -> str:
        """What the user should know and can change if it :attr:`is_small`."""
        gain = "`gain` compares what is in both alone" if self.is_enough else "no `gain` is logged"
        return (
            f"finds {self.recurring} of {self.total} pairs of segments of this validation in the one before: the "
            f"data move, the curve shows that beside the training, and {gain}. Validate on the same samples "
            "every time: no random crop, noise or augmentation in the validation data set or its collate function "
            "(a fixed crop, or one seeded by the index of the utterance), `shuffle=False` in its DataLoader, and "
            "with `limit_val_batches` or a subset the same utterances in the same order."
        )


class LastPairs:
    """The pairs of the last validation of a fit; not in checkpoints.

    Example:
        >>> last = LastPairs()
        >>> last.recurrence_of(torch.arange(4)) is None
        True
        >>> last.recurrence_of(torch.arange(2, 6))
        Recurrence(recurring=2, total=4)
    """

    def __init__(self) -> None:
        self._keys: Tensor | None = None

    def recurrence_of(self, keys: Tensor) -> Recurrence | None:
        """The recurrence of the pairs of these keys, ``(n,)`` int64 on the host, in the validation before, whose
        place they take; ``None`` if there was none."""
        before, self._keys = self._keys, keys
        return None if before is None else Recurrence.of(keys, before)
