"""One validation epoch, on all processes: batches come in, estimates come out."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn

from lightning_mi.batches import Waveforms
from lightning_mi.distributed import gather, rank, world_size
from lightning_mi.embedding import Encoder, Pooling, pool
from lightning_mi.estimator import MIEstimate
from lightning_mi.guest import guest
from lightning_mi.metric import MIBound
from lightning_mi.pairs import PairStore
from lightning_mi.segments import SectionSampler

FEWEST_PAIRS = 4  # two to fit on and two to score
FIT_PAIRS_PER_CLUSTER = 4  # below that a cluster is its own points, and the bound falls

Key = tuple[str, str]  # the names of a layer and of a gap


class NoEstimateError(Exception):
    """There is nothing to estimate from; the message says why."""


def affordable_clusters(num_clusters: int, num_pairs: int) -> int:
    """``num_clusters``, or fewer where pairs are few.

    Fewer is a power of two, so that one pair more or less from epoch to epoch changes nothing.

    Example:
        >>> affordable_clusters(128, num_pairs=1024), affordable_clusters(128, num_pairs=700)
        (128, 64)
    """
    most = max(1, num_pairs // 2 // FIT_PAIRS_PER_CLUSTER)
    return num_clusters if num_clusters <= most else 2 ** int(math.log2(most))


class ValidationEpoch:
    """What is gathered between the start and the end of one validation epoch.

    Args:
        encoder: How the model is called.
        sampler: Which sections it is called with.
        pooling: How frames become one vector.
        max_pairs: The most pairs that are held.
        seed: Of the model's own random numbers, the split and the k-means.

    Attributes:
        too_short: Utterances left out because they had no room for the sections.
        silent: Those left out because a section was digitally silent or not finite.
        non_finite: Pairs left out because of NaN or infinity in an embedding.
        num_pairs: Pairs that are left, after :meth:`share`; of all processes, like the counts above.
        seconds: Time spent in :meth:`clock`.
        error: Why this process gave up, if it did.
    """

    def __init__(
        self, encoder: Encoder, sampler: SectionSampler, pooling: Pooling, max_pairs: int, seed: int
    ) -> None:
        self._encoder = encoder
        self._sampler = sampler
        self._pooling: Pooling = pooling
        self._seed = seed
        self._store = PairStore(max_pairs)
        self.too_short = self.silent = self.non_finite = self.num_pairs = 0
        self.seconds = 0.0
        self.error: str | None = None

    def add(self, module: nn.Module, waveforms: Waveforms, precision: AbstractContextManager[Any]) -> None:
        """Cut the sections of a batch, encode with ``module``, under ``precision``, those that may be used, and
        keep one vector of each."""
        sections = self._sampler(waveforms)
        self.too_short += sections.too_short
        self.silent += sections.silent
        admitted = self._store.admits(sections.keys, sections.priorities)
        samples = sections.samples[admitted.to(sections.samples.device)]
        if len(samples) == 0:
            return
        batch = samples.flatten(0, 1)
        with guest(module, self._seed), precision:
            outputs = self._encoder(batch[:, None] if sections.has_channel else batch)
        embeddings = {
            name: pool(frames.unflatten(0, samples.shape[:2]), self._pooling) for name, frames in outputs.items()
        }
        keys, priorities, groups = sections.keys, sections.priorities, sections.groups
        self._store.add(keys[admitted], priorities[admitted], groups[admitted], embeddings)

    def share(self) -> None:
        """Agree with the other processes on the pairs, and leave in the store this process's share of them.

        Raises:
            NoEstimateError: On every process, if one of them gave up or too few pairs are left.
        """
        errors = [error for error in gather(self.error) if error is not None]
        if errors:
            raise NoEstimateError(errors[0])
        everyone = gather((self._store.keys, self._store.priorities))
        keys, priorities = (torch.cat(column) for column in zip(*everyone, strict=True))
        self._store.keep(keys, priorities)
        # The copies with which a DistributedSampler evens out the processes: the first process keeps one.
        before = keys[: sum(len(own) for own, _ in everyone[: rank()])]
        self._store.drop(torch.isin(self._store.keys, before))
        finite = torch.ones(len(self._store.keys), dtype=torch.bool)
        for name in self._encoder.layer_names:
            z = self._store.embeddings(name)
            if z is not None:
                finite &= torch.isfinite(z).flatten(1).all(dim=1).cpu()
        self._store.drop(~finite)
        counts = gather((self.too_short, self.silent, int((~finite).sum()), int(finite.sum())))
        totals = [sum(column) for column in zip(*counts, strict=True)]
        self.too_short, self.silent, self.non_finite, self.num_pairs = totals
        if self.num_pairs < FEWEST_PAIRS:
            shortest, rate = self._sampler.shortest, self._sampler.sample_rate
            raise NoEstimateError(
                f"{self.num_pairs} usable pairs of sections, {self.skipped} utterances left out ({self.reasons}). "
                f"It needs at least {FEWEST_PAIRS} pairs, from utterances of {shortest / rate:g} s or more at "
                f"`sample_rate={rate}`: check `segment_seconds`, `gap_seconds` and the validation data."
            )

    def estimates(self, num_clusters: int, device: torch.device) -> dict[Key, MIEstimate]:
        """The bound of the headline layer at each gap, then of the other layers at the first gap; the headline
        comes first. Estimating is shared out among the processes, and every one gets all results.

        Args:
            num_clusters: K.
            device: That of the model, for what the processes exchange.

        Raises:
            NoEstimateError: On every process, if an estimate failed.
        """
        gaps = [gap.name for gap in self._sampler.gaps]
        *others, headline = self._encoder.layer_names
        wanted = [(headline, gap) for gap in gaps] + [(layer, gaps[0]) for layer in others]
        own: dict[Key, MIEstimate | str] = {}
        for number, (layer, gap) in enumerate(wanted):
            metric = self._metric(layer, 1 + gaps.index(gap), num_clusters, device)
            metric.sync()
            if number % world_size() == rank():
                try:
                    own[layer, gap] = metric.estimate()
                except Exception as error:  # the other processes wait for an answer
                    own[layer, gap] = f"{type(error).__name__}: {error}"
        merged = {key: found for part in gather(own) for key, found in part.items()}
        estimates = {}
        for key in wanted:
            found = merged[key]
            if isinstance(found, str):
                raise NoEstimateError(found)
            estimates[key] = found
        return estimates

    def _metric(self, layer: str, partner: int, num_clusters: int, device: torch.device) -> MIBound:
        metric = MIBound(num_clusters, seed=self._seed, sync_on_compute=False).to(device)
        z = self._store.embeddings(layer)
        if z is not None and len(z):
            metric.update(z[:, 0], z[:, partner], self._store.groups.to(z.device))
        return metric

    @property
    def skipped(self) -> int:
        """How many utterances were left out."""
        return self.too_short + self.silent + self.non_finite

    @property
    def reasons(self) -> str:
        """Why they were, in words."""
        return (
            f"{self.too_short} too short, {self.silent} silent, {self.non_finite} with NaN or infinity in "
            "their embeddings"
        )

    @contextmanager
    def clock(self) -> Iterator[None]:
        """Add the time that the body takes to ``seconds``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - start
