"""Estimates of one validation, each computed by one of the processes in turn."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from lightning_mi.controls.null_control import NullFinding
from lightning_mi.distributed import gather, rank, world_size
from lightning_mi.estimator import MIEstimate
from lightning_mi.hashing import mix
from lightning_mi.metrics.base import BoundMetric
from lightning_mi.metrics.bounds import LabeledMIBound, MIBound
from lightning_mi.threads import SideBySide
from lightning_mi.validation.pair_store import Column, PairStore
from lightning_mi.validation.termination import Terminated, interruptible, sigterm_has_come

Key = tuple[str, str]  # the names of a layer and of a gap, or of a layer and of labels
Progress = Callable[[int, int], None]  # told the number of an estimate, from 1, when it begins, and of how many
K = TypeVar("K", bound=Hashable)

DIFFERENCES = {"content": ("same", "far"), "near_minus_far": ("near", "far")}
"""By the logged name, the gaps whose bounds are subtracted, pair by pair: what the first partner shares with the
anchor and a distant one does not. A difference of two lower bounds, hence no bound."""


FEWEST_SPEAKERS = 5
"""Below, speakers that batches name are not the groups: a fit to one or two of them tells little of any other."""


@dataclass(frozen=True)
class Outcome:
    """An estimate, or the reason why there is none.

    Attributes:
        estimate: The estimate; ``None`` if it failed.
        reason: Why it failed; ``None`` if it did not.
    """

    estimate: MIEstimate | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Findings:
    """All that one validation has found, equal on every process.

    Attributes:
        estimates: By the names of layer and gap, the primary one first.
        labeled: By the names of layer and labels.
        input_baseline: The bound of the input's frames; ``None`` if it was not measured.
        null: The null control, or the reason why it failed; ``None`` if it was not measured.
        num_clusters: K, after a reduction for few pairs.
        num_pairs: Number of pairs that were used.
        skipped: Number of utterances that were left out.
        reasons: Why they were, as text.
        num_frames: By the name of the layer, the number of frames in a segment; ``None`` if it is one vector.
        is_random: Whether the model's embeddings depend on random numbers.
        draws_in: Names of the submodules that draw them, as far as they are known.
        keys: ``(num_pairs,)`` int64 on the host, the identities of the pairs.
        num_speakers: Number of speakers if the batches name one for each utterance. ``FEWEST_SPEAKERS`` or more
            are the groups, but for ``labeled``.
        pairs_per_utterance: Maximum number of pairs from one utterance.
    """

    estimates: dict[Key, MIEstimate]
    labeled: dict[Key, Outcome]
    input_baseline: Outcome | None
    null: NullFinding | Outcome | None
    num_clusters: int
    num_pairs: int
    skipped: int
    reasons: str
    num_frames: Mapping[str, int | None]
    is_random: bool = False
    draws_in: tuple[str, ...] = ()
    keys: Tensor | None = None
    num_speakers: int | None = None
    pairs_per_utterance: int = 1

    @property
    def primary(self) -> MIEstimate:
        """The estimate that is logged under ``log_name``."""
        return next(iter(self.estimates.values()))

    @property
    def primary_layer(self) -> str:
        """Name of its layer."""
        return next(iter(self.estimates))[0]

    @property
    def controls(self) -> dict[str, MIEstimate]:
        """The controls that were measured in this validation, by their logged names."""
        found = {"input": self.input_baseline, "null": self.null}
        estimates = {name: each.estimate for name, each in found.items() if each is not None}
        return {name: estimate for name, estimate in estimates.items() if estimate is not None}


def difference(estimates: Mapping[Key, MIEstimate], layer: str, name: str) -> tuple[float, float] | None:
    """A paired difference of a layer's bounds and its standard error, in nats; ``None`` if it lacks one of them.

    Each bound is floored at 0 before: what a probe scores below the marginal is no information that is missing.

    Args:
        estimates: By the names of layer and gap.
        layer: Name of the layer.
        name: A key of :data:`DIFFERENCES`.

    Example:
        >>> import torch
        >>> from lightning_mi import mi_bound
        >>> z, noise = torch.randn(2, 400, 4, generator=torch.Generator().manual_seed(0))
        >>> estimates = {("rnn", "same"): mi_bound(z, z, 8), ("rnn", "far"): mi_bound(z, z + noise, 8)}
        >>> value, stderr = difference(estimates, "rnn", "content")
        >>> value > 2 * stderr
        True
    """
    first, second = (estimates.get((layer, gap)) for gap in DIFFERENCES[name])
    if first is None or second is None or first.scores is None or second.scores is None:
        return None
    return first.scores.floored().gain_over(second.scores.floored())


def no_progress(number: int, total: int) -> None:
    """A :data:`Progress` that is shown nowhere."""


class SharedWork:
    """Shares out estimates among the processes, in turn over all calls.

    Args:
        total: Number of estimates of all calls together, for ``progress``.
        progress: Called when an estimate begins, on any process.
        on_host: Whether the rows are on the host.

    Example:
        >>> metric = MIBound(num_clusters=2)
        >>> z = torch.arange(40.0)[:, None]
        >>> metric.update(z, z)
        >>> outcome = SharedWork().compute({"near": lambda: metric})["near"]
        >>> outcome.reason is None and outcome.estimate.bound > 0
        True
    """

    def __init__(self, total: int = 0, progress: Progress = no_progress, on_host: bool = True) -> None:
        self._num_estimates = 0  # of all processes
        self._on_host = on_host
        self._total = total
        self._progress = progress

    def compute(self, metrics: Mapping[K, Callable[[], BoundMetric]]) -> dict[K, Outcome]:
        """Estimate each metric on all rows of all processes; every process must call it with the same keys.

        Args:
            metrics: Functions that make a metric with this process's rows. One is made at a time, and on the host
                as many are held as torch has threads, whose estimates run side by side.

        Raises:
            Terminated: On every process, if one has received a SIGTERM.
        """
        own: dict[K, Outcome] = {}
        with SideBySide[K, Outcome](self._at_once(len(metrics))) as works:
            for key, make in metrics.items():
                metric = make()
                metric.sync()
                self._num_estimates += 1
                self._progress(self._num_estimates, self._total)
                if self._num_estimates % world_size() == rank() and not sigterm_has_come():
                    # What the other processes call, this one must call too, terminated or not.
                    with suppress(Terminated), interruptible():
                        works.start(key, partial(_outcome, metric))
            with suppress(Terminated), interruptible():
                own = works.results()
        parts = gather((own, sigterm_has_come()))
        if any(has_come for _, has_come in parts):
            raise Terminated
        merged = {key: outcome for part, _ in parts for key, outcome in part.items()}
        return {key: merged[key] for key in metrics}

    def _at_once(self, num_metrics: int) -> int:
        """How many of this process's estimates run side by side. One alone stays where a SIGTERM interrupts it."""
        own = -(-num_metrics // world_size())
        return min(own, torch.get_num_threads()) if self._on_host else 1


def _outcome(metric: BoundMetric) -> Outcome:
    try:
        return Outcome(metric.estimate())
    except Exception as error:  # the other processes wait for an answer
        return Outcome(reason=f"{type(error).__name__}: {error}")


def pair_metric(metric: MIBound, pairs: PairStore, column: Column, partner: int) -> MIBound:
    """``metric`` with this process's anchors and their partners at one distance.

    Args:
        metric: Without rows.
        pairs: The pairs of this process.
        column: ``(n, 1 + G, D)`` embeddings.
        partner: Number of the distance, from 1.
    """
    z = _rows(pairs, column)
    if z is not None:
        groups, keys = pairs.groups.to(z.device), pairs.keys.to(z.device)
        metric.update(z[:, 0], z[:, partner], groups, keys)
    return metric


def labeled_metric(metric: LabeledMIBound, pairs: PairStore, column: Column, labels: Column) -> LabeledMIBound:
    """``metric`` with this process's rows: one for each anchor, or one for each segment if labels are of frames.

    Args:
        metric: Without rows.
        pairs: The pairs of this process.
        column: ``(n, 1 + G, D)`` embeddings.
        labels: ``(n,)`` labels of anchors or ``(n, 1 + G)`` of segments.
    """
    z = _rows(pairs, column)
    if z is not None:
        targets = pairs[labels]
        num_segments = 1 if targets.ndim == 1 else targets.shape[1]
        keys = mix(pairs.keys[:, None] + torch.arange(num_segments)).flatten()
        groups = pairs.groups.repeat_interleave(num_segments)
        rows = (targets.flatten(), groups, keys)
        metric.update(z[:, :num_segments].flatten(0, 1), *(each.to(z.device) for each in rows))
    return metric


def _rows(pairs: PairStore, column: Column) -> Tensor | None:
    """A column; ``None`` on a process without pairs."""
    return pairs[column] if len(pairs.keys) else None
