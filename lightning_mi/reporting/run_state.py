"""What is remembered from one validation of a fit to the next, and travels in its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning_mi.estimator import MIEstimate
from lightning_mi.reporting.best import BestEpoch
from lightning_mi.reporting.history import History, Key

_IN_PICTURES = {"input": "input baseline"}  # by the logged name; others are called the same


class Memory:
    """The last value, the best epoch, the controls that are measured once, and the history that pictures are drawn
    from.

    Example:
        >>> from lightning_mi import mi_bound
        >>> import torch
        >>> z = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
        >>> memory = Memory()
        >>> memory.remember(0, 100, {("output", "near"): mi_bound(z, z, num_clusters=4)})
        >>> Memory.from_state(memory.state()).last == memory.last
        True
    """

    def __init__(self) -> None:
        self.last: float | None = None
        self.input: float | None = None
        self.null: tuple[float, float] | None = None  # and its standard error
        self.best: BestEpoch | None = None
        self.history = History()

    def remember(
        self,
        epoch: int,
        step: int,
        estimates: dict[Key, MIEstimate],
        controls: Mapping[str, MIEstimate] | None = None,
    ) -> None:
        """Take in one validation, the primary's estimate first, and by their logged names the controls that were
        measured in it."""
        primary = next(iter(estimates.values()))
        self.last = primary.bound
        if self.best is None or primary.bound > self.best.bound:
            self.best = BestEpoch.of(primary)
        if len(self.history) and step < self.history.last.step:
            self.history = History()  # another run's
        references = {_IN_PICTURES.get(name, name): estimate for name, estimate in (controls or {}).items()}
        self.history.append(epoch, step, estimates, references)

    def begin_with(self, before: dict[Key, MIEstimate], first: MIEstimate) -> None:
        """Let the history begin with a validation before training, unless it was of other utterances than the
        ``first`` in training, or the history has begun."""
        try:
            BestEpoch.of(next(iter(before.values()))).gain_of(first)
        except ValueError:
            return
        if not len(self.history):
            self.history.append(-1, 0, before)

    def gain_of(self, primary: MIEstimate) -> tuple[float, float] | None:
        """Difference to the best epoch so far and its standard error, in nats; ``None`` where there is nothing to
        compare with: no epoch yet, or other utterances than then."""
        if self.best is None:
            return None
        try:
            return self.best.gain_of(primary)
        except ValueError:
            return None

    def state(self) -> dict[str, Any]:
        """Numbers, strings and tensors only, less than 100 KiB in a checkpoint."""
        best = None if self.best is None else self.best.state()
        null = None if self.null is None else list(self.null)
        return {
            "last": self.last,
            "input": self.input,
            "null": null,
            "best": best,
            "history": self.history.state(),
        }

    @staticmethod
    def from_state(state: dict[str, Any]) -> Memory:
        """What :meth:`state` was made from."""
        memory = Memory()
        memory.last, memory.input = state["last"], state["input"]
        null = state.get("null")  # which older checkpoints do not have
        memory.null = None if null is None else (null[0], null[1])
        memory.best = None if state["best"] is None else BestEpoch.from_state(state["best"])
        memory.history = History.from_state(state["history"])
        return memory
