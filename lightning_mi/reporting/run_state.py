"""Run state: what survives from one validation of a run to the next, and in its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lightning_mi.estimator import MIEstimate
from lightning_mi.estimator.group_scores import GroupScores, significance_factor
from lightning_mi.reporting.history import History
from lightning_mi.reporting.recurrence import Recurrence
from lightning_mi.validation.estimates import DIFFERENCES, Key

_IN_FIGURES = {"input": "input baseline"}  # by the logged name; others are called the same


@dataclass
class RunState:
    """State of one run.

    Attributes:
        last: The last bound, in nats.
        monitored: The last values of what else is monitored, by their logged names.
        input: The input baseline, in nats, measured once.
        null: The null control and its standard error, in nats, measured once.
        reference: Scores of groups that a gain is measured from: their means over the validations since the last
            significant gain. The maximum of equal epochs is too high by luck; a mean is not.
        reference_epochs: Number of validations in it.
        history: What figures are drawn from.
        validations: Number of validations that have begun, with or without a value.
        num_clusters: K of the first validation with a value; ``None`` before it.
        pairs_per_utterance: The number that the first validation with a value chose; ``None`` before it.
        untrained: Estimates of a validation before training, and the id of its module, which the Trainer holds
            until then; not in checkpoints.

    Example:
        >>> from lightning_mi import mi_bound
        >>> import torch
        >>> z = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
        >>> state = RunState()
        >>> state.update(0, 100, {("output", "near"): mi_bound(z, z, num_clusters=4)})
        >>> RunState.from_state(state.state()).last == state.last
        True
    """

    last: float | None = None
    monitored: dict[str, float] = field(default_factory=dict)
    input: float | None = None
    null: tuple[float, float] | None = None
    reference: GroupScores | None = None
    reference_epochs: int = 0
    history: History = field(default_factory=History)
    validations: int = 0
    num_clusters: int | None = None
    pairs_per_utterance: int | None = None
    untrained: tuple[int, dict[Key, MIEstimate]] | None = None

    def take_controls(self, controls: Mapping[str, MIEstimate]) -> dict[str, float]:
        """Take in the controls that were just measured; all that are known, by their logged names.

        Args:
            controls: By their logged names, ``"input"`` and ``"null"``.
        """
        if "input" in controls:
            self.input = controls["input"].bound
        if "null" in controls:
            self.null = controls["null"].bound, controls["null"].stderr
        known = {} if self.input is None else {"input": self.input}
        if self.null is not None:
            known["null"], known["null_stderr"] = self.null
        return known

    def update(
        self,
        epoch: int,
        step: int,
        estimates: Mapping[Key, MIEstimate],
        controls: Mapping[str, MIEstimate] | None = None,
    ) -> None:
        """Take in one validation.

        Args:
            epoch: Number of the epoch, from 0.
            step: Optimiser steps until now.
            estimates: By the names of layer and gap, the primary one first.
            controls: By their logged names, those that were measured in it.
        """
        primary = next(iter(estimates.values()))
        self.last = primary.bound
        self.num_clusters = self.num_clusters or primary.num_clusters
        self._move_reference(primary)
        if len(self.history) and step < self.history.last.step:
            self.history = History()  # another run's
        references = {_IN_FIGURES.get(name, name): estimate for name, estimate in (controls or {}).items()}
        layer, gap = next(iter(estimates))
        if gap in {first for first, _ in DIFFERENCES.values()} and (layer, "far") in estimates:
            references["distant segments"] = estimates[layer, "far"]
        self.history.append(epoch, step, estimates, references)

    def start_from_untrained(self, module_id: int, primary: MIEstimate) -> None:
        """Let the history start with the validation before training, if it was of the same module and the same
        utterances as ``primary``."""
        if self.untrained is not None and self.untrained[0] == module_id and not len(self.history):
            before = self.untrained[1]
            scores = next(iter(before.values())).scores
            if scores is not None and _gain(primary, scores) is not None:
                self.history.append(-1, 0, before)
        self.untrained = None

    def gain_of(self, primary: MIEstimate) -> tuple[float, float] | None:
        """Paired difference to :attr:`reference` and its standard error, in nats; ``None`` before the second
        validation, or if few groups are in both
        (:class:`lightning_mi.reporting.recurrence.Recurrence`)."""
        return None if self.reference is None else _gain(primary, self.reference)

    def _move_reference(self, primary: MIEstimate) -> None:
        """Start it anew with a significant gain or other data, leave it at a significant loss, else average.

        The first value after a significant gain, which may have been luck, is averaged in whatever it is.
        """
        if primary.scores is None:
            return
        gain = self.gain_of(primary)
        if gain is not None and self.reference is not None:
            least = significance_factor(len(primary.scores.groups)) * gain[1]
            if gain[0] < -least and self.reference_epochs > 1:
                return
            if gain[0] <= least:
                self.reference_epochs += 1
                self.reference = self.reference.averaged_with(primary.scores, 1 / self.reference_epochs).compact()
                return
        self.reference, self.reference_epochs = primary.scores.compact(), 1

    def state(self) -> dict[str, Any]:
        """Numbers, strings and tensors only, less than 100 KiB in a checkpoint."""
        reference = None
        if self.reference is not None:
            reference = {"epochs": self.reference_epochs, **self.reference.state()}
        return {
            "last": self.last,
            "monitored": dict(self.monitored),
            "input": self.input,
            "null": None if self.null is None else list(self.null),
            "reference": reference,
            "history": self.history.state(),
            "validations": self.validations,
            "num_clusters": self.num_clusters,
            "pairs_per_utterance": self.pairs_per_utterance,
        }

    def with_other_settings(self) -> RunState:
        """The curve and the count alone: what a bound of other settings is not compared with is measured anew."""
        return RunState(last=self.last, history=self.history, validations=self.validations)

    @staticmethod
    def from_state(state: Mapping[str, Any]) -> RunState:
        """The run state that :meth:`state` was made from."""
        null = state.get("null")
        reference = state["reference"] if "reference" in state else state.get("best")  # of development versions
        history = History.from_state(state["history"])
        return RunState(
            last=state["last"],
            monitored=dict(state.get("monitored", {})),
            input=state["input"],
            null=None if null is None else (null[0], null[1]),
            reference=None if reference is None else GroupScores.from_state(reference),
            reference_epochs=0 if reference is None else reference.get("epochs", 1),
            history=history,
            # Development versions counted epochs, one validation each.
            validations=state.get("validations", 1 + history.last.epoch if len(history) else 0),
            num_clusters=state.get("num_clusters", history.last.primary.num_clusters if len(history) else None),
            pairs_per_utterance=state.get("pairs_per_utterance"),
        )


def _gain(primary: MIEstimate, scores: GroupScores) -> tuple[float, float] | None:
    assert primary.scores is not None
    if not Recurrence.of(primary.scores.groups, scores.groups).is_enough:
        return None
    try:
        return primary.scores.gain_over(scores)
    except ValueError:
        return None
