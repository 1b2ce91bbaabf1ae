"""History: the validations of a run in a few kilobytes, from which figures are drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lightning_mi.estimator import MIEstimate
from lightning_mi.estimator.group_scores import significance_factor
from lightning_mi.validation.estimates import Key

# Values are kept as whole multiples of this many nats: finer than any error bar, and such an integer takes 2 or 3
# bytes of a checkpoint, a float 9.
_RESOLUTION = 1e-4
_MAX_SUMMARIES = 1024  # some 20 KB of a checkpoint
_WIDTH = 6  # integers of a summary in a checkpoint, the number of its name included; with few groups one more
_FEW_GROUPS = 255  # with more, an interval is two standard errors to 1%


@dataclass(frozen=True)
class BoundSummary:
    """Summary of one :class:`lightning_mi.MIEstimate`, rounded to 1e-4 nats.

    Attributes:
        bound: The bound, in nats.
        stderr: Its standard error, in nats.
        entropy: H(c), in nats.
        num_clusters: K.
        active_clusters: How many clusters occur.
        num_groups: Number of groups that the error is over if they are few (255 or less), else ``None``.

    Example:
        >>> summary = BoundSummary(bound=1.5, stderr=0.1, entropy=4.0, num_clusters=128, active_clusters=120)
        >>> round(summary.ceiling, 3), round(summary.effective_clusters, 1)
        (4.852, 54.6)
    """

    bound: float
    stderr: float
    entropy: float
    num_clusters: int
    active_clusters: int
    num_groups: int | None = None

    @property
    def interval(self) -> tuple[float, float]:
        """The bound less and plus two standard errors, more with few groups
        (:func:`lightning_mi.estimator.group_scores.significance_factor`), in nats."""
        factor = 2.0 if self.num_groups is None else significance_factor(self.num_groups)
        return self.bound - factor * self.stderr, self.bound + factor * self.stderr

    @property
    def ceiling(self) -> float:
        """log K, in nats."""
        return math.log(self.num_clusters)

    @property
    def effective_clusters(self) -> float:
        """exp(H(c)): the number of clusters of equal size that have the same entropy."""
        return math.exp(self.entropy)


@dataclass(frozen=True)
class Validation:
    """One validation of a run.

    Attributes:
        epoch: Number of the epoch, from 0; -1 is before training.
        step: Optimiser steps until then.
        summaries: By the names of layer and gap, the primary first.
        references: Bounds to compare the primary with, by what they are called in pictures; in nats.
    """

    epoch: int
    step: int
    summaries: dict[Key, BoundSummary]
    references: dict[str, BoundSummary]

    @property
    def key(self) -> Key:
        """The names of layer and gap of the primary."""
        return next(iter(self.summaries))

    @property
    def primary(self) -> BoundSummary:
        """Summary of the bound that is logged under ``log_name``."""
        return self.summaries[self.key]

    @property
    def layers(self) -> dict[str, BoundSummary]:
        """Summaries of the layers at the primary gap."""
        return {layer: summary for (layer, gap), summary in self.summaries.items() if gap == self.key[1]}


class History:
    """The validations of a run, in their order; numbers only.

    It never holds more than ``max_summaries`` summaries of estimates (but always the first, the best and the last
    validation). When it would, it drops the validation whose neighbours are nearest to each other, the oldest of
    equals. So it is spread evenly over the run, and a resumed run has the history that it would have had.

    Args:
        max_summaries: Maximum number of summaries, at least 3.

    Raises:
        ValueError: If ``max_summaries`` is below 3.

    Example:
        >>> import torch
        >>> from lightning_mi import mi_bound
        >>> z, noise = torch.randn(2, 200, 4, generator=torch.Generator().manual_seed(0))
        >>> history = History()
        >>> for epoch, level in enumerate([2.0, 0.5, 1.0]):
        ...     estimate = mi_bound(z, z + level * noise, num_clusters=4)
        ...     history.append(epoch, 100 * (epoch + 1), {("encoder", "near"): estimate})
        >>> len(history), history.best.epoch
        (3, 1)
        >>> [validation.step for validation in History.from_state(history.state())]
        [100, 200, 300]
    """

    def __init__(self, max_summaries: int = _MAX_SUMMARIES) -> None:
        if max_summaries < 3:
            raise ValueError(f"`max_summaries` must be at least 3, got {max_summaries}.")
        self._max_summaries = max_summaries
        self._validations: list[Validation] = []

    def __len__(self) -> int:
        return len(self._validations)

    def __iter__(self) -> Iterator[Validation]:
        return iter(self._validations)

    def append(
        self,
        epoch: int,
        step: int,
        estimates: Mapping[Key, MIEstimate],
        references: Mapping[str, MIEstimate] | None = None,
    ) -> None:
        """Append a validation. One at the same epoch and step as the last replaces it.

        Args:
            epoch: Number of the epoch, from 0; -1 for a validation before training.
            step: Optimiser steps until now; not below that of the validation before.
            estimates: By the names of layer and gap, the primary first, as
                :attr:`lightning_mi.MIBoundCallback.estimates`.
            references: Bounds that the primary is to be compared with, by their names in figures, such as
                ``"input baseline"`` or ``"null"``. One that is measured only once is a horizontal line.

        Raises:
            ValueError: If there are no ``estimates``, a value is not finite, or ``step`` is below the last one.
        """
        if not estimates:
            raise ValueError("`estimates` must hold at least the primary's, got none: append nothing instead.")
        if self._validations and step < self._validations[-1].step:
            raise ValueError(f"`step` must not fall, got {step} after {self._validations[-1].step}.")
        added = Validation(
            int(epoch),
            int(step),
            {key: _summary(key, estimate) for key, estimate in estimates.items()},
            {name: _summary(name, estimate) for name, estimate in (references or {}).items()},
        )
        if self._validations and (added.epoch, added.step) == (self.last.epoch, self.last.step):
            self._validations.pop()
        self._validations.append(added)
        while sum(map(_count, self)) > self._max_summaries and self._thin():
            pass

    @property
    def last(self) -> Validation:
        """The newest.

        Raises:
            IndexError: If there is none.
        """
        return self._validations[-1]

    @property
    def best(self) -> Validation:
        """That with the highest primary, the first of equals.

        Raises:
            ValueError: If there is none.
        """
        return max(self._validations, key=lambda validation: validation.primary.bound)

    def references(self) -> dict[str, list[tuple[int, BoundSummary]]]:
        """By name, the summaries of each reference and the positions of their validations in this history."""
        found: dict[str, list[tuple[int, BoundSummary]]] = {}
        for position, validation in enumerate(self):
            for name, summary in validation.references.items():
                found.setdefault(name, []).append((position, summary))
        return found

    def state(self) -> dict[str, Any]:
        """Strings and integers only, for a checkpoint."""
        keys = list(dict.fromkeys(key for validation in self for key in validation.summaries))
        names = list(dict.fromkeys(name for validation in self for name in validation.references))
        every = [summary for each in self for summary in (*each.summaries.values(), *each.references.values())]
        width = _WIDTH + any(summary.num_groups is not None for summary in every)
        rows = []
        for validation in self:
            row = [validation.epoch, validation.step, len(validation.summaries)]
            for key, summary in validation.summaries.items():
                row += [keys.index(key), *_integers(summary)[: width - 1]]
            for name, summary in validation.references.items():
                row += [names.index(name), *_integers(summary)[: width - 1]]
            rows.append(row)
        return {"keys": [list(key) for key in keys], "references": names, "rows": rows} | (
            {"width": width} if width > _WIDTH else {}
        )

    @staticmethod
    def from_state(state: Mapping[str, Any]) -> History:
        """The history that :meth:`state` was made from."""
        history = History()
        keys: list[Key] = [(layer, gap) for layer, gap in state["keys"]]
        width = state.get("width", _WIDTH)
        for epoch, step, num_summaries, *values in state["rows"]:
            parts = [values[start : start + width] for start in range(0, len(values), width)]
            summaries = {keys[part[0]]: _from_integers(part[1:]) for part in parts[:num_summaries]}
            references = {state["references"][part[0]]: _from_integers(part[1:]) for part in parts[num_summaries:]}
            history._validations.append(Validation(epoch, step, summaries, references))
        return history

    def _thin(self) -> bool:
        """Drop one validation; whether there was one to drop."""
        steps = [validation.step for validation in self]
        best = self.best
        inner = [i for i in range(1, len(steps) - 1) if self._validations[i] is not best]
        if inner:
            del self._validations[min(inner, key=lambda i: steps[i + 1] - steps[i - 1])]
        return bool(inner)


def _count(validation: Validation) -> int:
    return len(validation.summaries) + len(validation.references)


def _summary(name: Key | str, estimate: MIEstimate) -> BoundSummary:
    values = (estimate.bound, estimate.stderr, estimate.entropy)
    if not all(map(math.isfinite, values)):
        raise ValueError(f"The bound, its error and the entropy of {name!r} must be finite, got {values}.")
    whole = [round(value / _RESOLUTION) for value in values]
    num_groups = estimate.num_groups if estimate.num_groups <= _FEW_GROUPS else 0
    return _from_integers([*whole, estimate.num_clusters, estimate.active_clusters, num_groups])


def _integers(summary: BoundSummary) -> list[int]:
    values = (summary.bound, summary.stderr, summary.entropy)
    whole = [round(value / _RESOLUTION) for value in values]
    return [*whole, summary.num_clusters, summary.active_clusters, summary.num_groups or 0]


def _from_integers(values: list[int]) -> BoundSummary:
    bound, stderr, entropy, num_clusters, active_clusters, *num_groups = values
    in_nats = bound * _RESOLUTION, stderr * _RESOLUTION, entropy * _RESOLUTION
    return BoundSummary(*in_nats, num_clusters, active_clusters, sum(num_groups) or None)
