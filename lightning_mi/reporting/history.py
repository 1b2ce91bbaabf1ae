"""The validations of a run, remembered in a few kilobytes: what pictures are drawn from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lightning_mi.estimator import MIEstimate

Key = tuple[str, str]  # the names of a layer and of a gap

# Values are kept as whole multiples of this many nats: finer than any error bar, and such an integer takes 2 or 3
# bytes of a checkpoint where a float takes 9.
_GRAIN = 1e-4
_MOST_BYTES = 20_000


@dataclass(frozen=True)
class Reading:
    """What is remembered of one :class:`lightning_mi.MIEstimate`, rounded to 1e-4 nats.

    Attributes:
        bound: In nats, as the others are where nothing else is said.
        stderr: Its standard error.
        entropy: H(c).
        num_clusters: K, a number.
        active_clusters: How many of them occur, a number.

    Example:
        >>> reading = Reading(bound=1.5, stderr=0.1, entropy=4.0, num_clusters=128, active_clusters=120)
        >>> round(reading.ceiling, 3), round(reading.effective_clusters, 1)
        (4.852, 54.6)
    """

    bound: float
    stderr: float
    entropy: float
    num_clusters: int
    active_clusters: int

    @property
    def ceiling(self) -> float:
        """log K, in nats."""
        return math.log(self.num_clusters)

    @property
    def effective_clusters(self) -> float:
        """exp(H(c)), a number: as many clusters of equal size have the same entropy."""
        return math.exp(self.entropy)


@dataclass(frozen=True)
class Validation:
    """One validation of a run.

    Attributes:
        epoch: Number of the epoch, from 0; -1 is before training.
        step: Optimiser steps until then.
        readings: By the names of layer and gap, the primary first.
        references: Bounds to compare the primary with, by what they are called in pictures; in nats.
    """

    epoch: int
    step: int
    readings: dict[Key, Reading]
    references: dict[str, Reading]

    @property
    def key(self) -> Key:
        """The names of layer and gap of the primary."""
        return next(iter(self.readings))

    @property
    def primary(self) -> Reading:
        """Of the bound that is logged under ``log_name``."""
        return self.readings[self.key]

    @cached_property
    def num_bytes(self) -> int:
        """Of a checkpoint, at most."""
        readings = [*self.readings.values(), *self.references.values()]
        numbers = [number for reading in readings for number in _integers(reading)]
        pickled = sum(2 if 0 <= number < 256 else 3 if 0 <= number < 65536 else 5 for number in numbers)
        return 24 + 3 * len(readings) + pickled

    @property
    def layers(self) -> dict[str, Reading]:
        """Of each layer, at the primary's gap."""
        return {layer: reading for (layer, gap), reading in self.readings.items() if gap == self.key[1]}


class History:
    """The validations of a run, in their order; only numbers are kept.

    It stays below ``max_bytes`` in a checkpoint, however long the run: where it would not, it leaves out the
    validation whose neighbours are nearest to each other (the oldest of equals), never the first, the best or the
    last. So it is spread evenly over the whole run, and a resumed run has the history that it would have had.

    Args:
        max_bytes: The most bytes of :meth:`state` in a checkpoint, at least 1000.

    Raises:
        ValueError: If ``max_bytes`` is below 1000.

    Example:
        >>> import torch
        >>> from lightning_mi import mi_bound
        >>> z = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
        >>> history = History()
        >>> for epoch, noise in enumerate([2.0, 0.5, 1.0]):
        ...     estimate = mi_bound(z, z + noise * torch.randn(200, 4), num_clusters=4)
        ...     history.append(epoch, 100 * (epoch + 1), {("encoder", "near"): estimate})
        >>> len(history), history.best.epoch
        (3, 1)
        >>> [validation.step for validation in History.from_state(history.state())]
        [100, 200, 300]
    """

    def __init__(self, max_bytes: int = _MOST_BYTES) -> None:
        if max_bytes < 1000:
            raise ValueError(f"`max_bytes` must be at least 1000, got {max_bytes}: a validation takes some 100.")
        self._max_bytes = max_bytes
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
        """Remember a validation.

        One at the same epoch and step as the last takes its place.

        Args:
            epoch: Number of the epoch, from 0; -1 for one before training.
            step: Optimiser steps until now; not below that of the validation before.
            estimates: By the names of layer and gap, the primary first, as
                :attr:`lightning_mi.MIBoundCallback.estimates`.
            references: Bounds that the primary is to be compared with, by what they are to be called in pictures,
                such as ``"input baseline"`` or ``"null"``. One that is measured only once is a level line.

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
            {key: _reading(key, estimate) for key, estimate in estimates.items()},
            {name: _reading(name, estimate) for name, estimate in (references or {}).items()},
        )
        if self._validations and (added.epoch, added.step) == (self.last.epoch, self.last.step):
            self._validations.pop()
        self._validations.append(added)
        while self._num_bytes() > self._max_bytes and self._leave_one_out():
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

    def references(self) -> dict[str, list[tuple[int, Reading]]]:
        """By name, the readings of each reference and the positions of their validations in this history."""
        found: dict[str, list[tuple[int, Reading]]] = {}
        for position, validation in enumerate(self):
            for name, reading in validation.references.items():
                found.setdefault(name, []).append((position, reading))
        return found

    def state(self) -> dict[str, Any]:
        """Strings and integers only, for a checkpoint."""
        keys = list(dict.fromkeys(key for validation in self for key in validation.readings))
        names = list(dict.fromkeys(name for validation in self for name in validation.references))
        rows = []
        for validation in self:
            row = [validation.epoch, validation.step, len(validation.readings)]
            for key, reading in validation.readings.items():
                row += [keys.index(key), *_integers(reading)]
            for name, reading in validation.references.items():
                row += [names.index(name), *_integers(reading)]
            rows.append(row)
        return {"keys": [list(key) for key in keys], "references": names, "rows": rows}

    @staticmethod
    def from_state(state: Mapping[str, Any], max_bytes: int = _MOST_BYTES) -> History:
        """What :meth:`state` was made from."""
        history = History(max_bytes)
        keys: list[Key] = [(layer, gap) for layer, gap in state["keys"]]
        for epoch, step, num_readings, *values in state["rows"]:
            parts = [values[start : start + 6] for start in range(0, len(values), 6)]
            readings = {keys[part[0]]: _from_integers(part[1:]) for part in parts[:num_readings]}
            references = {state["references"][part[0]]: _from_integers(part[1:]) for part in parts[num_readings:]}
            history._validations.append(Validation(epoch, step, readings, references))
        return history

    def _num_bytes(self) -> int:
        """Of the state in a checkpoint, at most."""
        keys = {key for validation in self for key in validation.readings}
        names = {name for validation in self for name in validation.references}
        strings = [*(part for key in keys for part in key), *names]
        total = 200 + sum(len(text.encode()) + 12 for text in strings) + 12 * len(keys)
        return total + sum(validation.num_bytes for validation in self)

    def _leave_one_out(self) -> bool:
        """Whether there was one to leave out."""
        steps = [validation.step for validation in self]
        best = self.best
        inner = [i for i in range(1, len(steps) - 1) if self._validations[i] is not best]
        if inner:
            del self._validations[min(inner, key=lambda i: steps[i + 1] - steps[i - 1])]
        return bool(inner)


def _reading(name: Key | str, estimate: MIEstimate) -> Reading:
    values = (estimate.bound, estimate.stderr, estimate.entropy)
    if not all(map(math.isfinite, values)):
        raise ValueError(f"The bound, its error and the entropy of {name!r} must be finite, got {values}.")
    whole = [round(value / _GRAIN) for value in values]
    return _from_integers([*whole, estimate.num_clusters, estimate.active_clusters])


def _integers(reading: Reading) -> list[int]:
    values = (reading.bound, reading.stderr, reading.entropy)
    return [*(round(value / _GRAIN) for value in values), reading.num_clusters, reading.active_clusters]


def _from_integers(values: list[int]) -> Reading:
    bound, stderr, entropy, num_clusters, active_clusters = values
    return Reading(bound * _GRAIN, stderr * _GRAIN, entropy * _GRAIN, num_clusters, active_clusters)
