"""One validation epoch, on all processes: batches come in, estimates come out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from lightning_mi.controls.fingerprints import FINGERPRINT_SIZE
from lightning_mi.controls.frame_statistics import frame_statistics
from lightning_mi.controls.near_duplicates import group_near_duplicates
from lightning_mi.distributed import gather, rank, world_size
from lightning_mi.embedding.encoder import Encoder, Pooling, pool, select_frames
from lightning_mi.embedding.isolation import isolated
from lightning_mi.embedding.strategy import StrategyForward
from lightning_mi.estimator import MIEstimate
from lightning_mi.hashing import mix, uniform
from lightning_mi.inputs.batches import Waveforms
from lightning_mi.inputs.labels import Labels, labels_at
from lightning_mi.inputs.segments import Segments, SegmentSampler
from lightning_mi.metrics.base import BoundMetric
from lightning_mi.metrics.bounds import LabeledMIBound, MIBound, NullBound
from lightning_mi.validation.pair_store import PairStore

FEWEST_PAIRS = 4  # two to fit on and two to score

Key = tuple[str, str]  # the names of a layer and of a gap, or of labels
BEST_LAYER = "best"
_FEATURES = "features"
_STATISTICS = "statistics of features"  # where the features are pooled in another way
_SKETCHES = "sketch of the utterance"  # beside the labels: a hash of the utterance, and its sketch
_FRAME = "frame of "  # before a layer's name: one frame of each segment, for labels with a rate
_MEAN = "mean of "  # the same: the whole anchor, for labels of utterances where the bound is of less
T = TypeVar("T")

# What the user's data and settings can bring about; a batch too large for the device is one of them.
_BAD_INPUT = (ValueError, MemoryError, torch.OutOfMemoryError)


class NoEstimateError(Exception):
    """There is nothing to estimate from; the message says why."""


@dataclass(frozen=True)
class _Failure:
    """What one process tells the others about its error."""

    text: str
    is_bad_input: bool


def _describe(error: Exception | None) -> _Failure | None:
    if error is None:
        return None
    return _Failure(f"{type(error).__name__}: {error}", isinstance(error, _BAD_INPUT))


@dataclass(frozen=True)
class NullControl:
    """What came of the null control.

    Attributes:
        estimate: Of the pairs that were shuffled among utterances, in nats.
        copies: Utterances that share sound with one of another group.
        utterances: Of all pairs.
    """

    estimate: MIEstimate
    copies: int
    utterances: int


class ValidationEpoch:
    """What is gathered between the start and the end of one validation epoch.

    Args:
        encoder: How the model is asked for embeddings.
        access: How the model is called.
        sampler: Which segments it is called with.
        pooling: How frames become one vector.
        labels: What is read beside the waveforms.
        features: Of segments ``(N, ...)`` in the layout of the batch, frames ``(N, S, F)`` to be pooled like
            those of the model. ``None``: none.
        sketch: Of utterances ``(B, T)`` and their lengths ``(B,)``, to find copies by: ``(B, 64)`` int64; with
            ``features``. ``None``: they are not looked for.
        max_pairs: The most pairs that are held.
        seed: Of the model's own random numbers, the split and the k-means.

    Attributes:
        too_short: Utterances left out because they had no room for the segments.
        silent: Those left out because a segment was digitally silent or not finite.
        non_finite: Pairs left out because of NaN or infinity in an embedding.
        num_pairs: Pairs that are left, after :meth:`share`; of all processes, like the counts above.
        seconds: Time spent in :meth:`clock`.
        error: Why this process gave up, if it did.
    """

    def __init__(
        self,
        encoder: Encoder,
        access: StrategyForward,
        sampler: SegmentSampler,
        pooling: Pooling,
        labels: tuple[Labels, ...],
        features: Callable[[Tensor], Tensor] | None,
        sketch: Callable[[Tensor, Tensor], Tensor] | None,
        max_pairs: int,
        seed: int,
    ) -> None:
        self._encoder = encoder
        self._access = access
        self._sampler = sampler
        self._pooling: Pooling = pooling
        self._labels = labels
        self._features = features
        self._features_error: str | None = None
        self._sketch = sketch
        self._sketch_error: str | None = None
        self._seed = seed
        self._store = PairStore(max_pairs)
        self._has_called = False
        self._segment_shape: torch.Size | None = None
        self._num_estimates = 0  # of all processes
        self.too_short = self.silent = self.non_finite = self.num_pairs = 0
        self.seconds = 0.0
        self.error: Exception | None = None

    def add(self, batch: Any, read: Callable[[Any], Waveforms]) -> None:
        """Cut the segments of a batch, encode those that may be used, and keep one vector of each.

        An exception is kept in ``error``, and nothing is added from then on. Where all processes must call the
        model in step, each calls it once a batch even so, and what the call raises is raised here: the others
        are in the middle of the same call.
        """
        in_lockstep = self._access.in_lockstep
        labels: dict[str, Tensor] = {}
        parts = self._unless_failed(lambda: self._cut(batch, read(batch), labels))
        if not parts and in_lockstep:
            self._run(self._placeholder())
        for part in parts or []:
            outputs = self._run(part) if in_lockstep else self._unless_failed(partial(self._run, part))
            if outputs is not None:
                self._unless_failed(partial(self._keep, part, outputs, labels))

    def share(self) -> None:
        """Agree with the other processes on the pairs, and leave in the store this process's share of them.

        Raises:
            NoEstimateError: On every process, if there was bad input, every process that called the model failed,
                or too few pairs are left.
            Exception: On every process, if only some of those that called the model failed: what they met, and
                on the others a RuntimeError that says so.
        """
        self._settle(gather((self._has_called, _describe(self.error))))
        everyone = gather((self._store.keys, self._store.priorities))
        keys, priorities = (torch.cat(column) for column in zip(*everyone, strict=True))
        self._store.keep(keys, priorities)
        # The copies with which a DistributedSampler evens out the processes: the first process keeps one.
        before = keys[: sum(len(own) for own, _ in everyone[: rank()])]
        self._store.drop(torch.isin(self._store.keys, before))
        finite = torch.ones(len(self._store.keys), dtype=torch.bool)
        for name in self._store.names:
            z = self._store.embeddings(name)
            if z is not None and name not in (_FEATURES, _STATISTICS):  # which are there in one epoch only
                finite &= torch.isfinite(z).flatten(1).all(dim=1).cpu()
        self._store.drop(~finite)
        counts = gather((self.too_short, self.silent, int((~finite).sum()), int(finite.sum())))
        totals = [sum(column) for column in zip(*counts, strict=True)]
        self.too_short, self.silent, self.non_finite, self.num_pairs = totals
        self._check_enough()

    def _check_enough(self) -> None:
        if self.num_pairs < FEWEST_PAIRS:
            shortest, rate = self._sampler.shortest, self._sampler.sample_rate
            frames = "" if self._sampler.layout.time_dim is None else f" frames a second ({shortest} frames)"
            raise NoEstimateError(
                f"{self.num_pairs} usable pairs of segments, {self.skipped} utterances left out ({self.reasons}). "
                f"It needs at least {FEWEST_PAIRS} pairs, from utterances of {shortest / rate:g} s or more at "
                f"`sample_rate={rate:g}`{frames}: check `segment_seconds`, `gap_seconds` and the validation data."
            )
        own = self._store.groups.unique()[:2].tolist()
        if len({group for groups in gather(own) for group in groups}) == 1:
            raise NoEstimateError(
                f"all {self.num_pairs} usable pairs of segments are of one group (utterance, speaker), and no "
                "group stands on both sides of the split. Validate on more groups."
            )

    def _cut(self, batch: Any, waveforms: Waveforms, labels: dict[str, Tensor]) -> Sequence[Segments]:
        """The segments that may be used, in parts that are each encoded by one call; ``labels`` is filled."""
        segments = self._sampler(waveforms)
        self._segment_shape = segments.samples.shape[2:]
        labels |= {each.name: each.read(batch, waveforms.samples.shape[0]) for each in self._labels}
        self.too_short += segments.too_short
        self.silent += segments.silent
        segments = segments.select(self._store.admits(segments.keys, segments.priorities))
        if len(segments.samples) == 0:
            return []
        if self._sketch is not None:
            self._sketch_utterances(segments, waveforms, labels)
        if self._access.in_lockstep:
            return [segments]
        # No call is larger than the batch that the model has just been validated on.
        return segments.split(max(1, waveforms.samples.numel() // segments.samples[0].numel()))

    def _sketch_utterances(self, segments: Segments, waveforms: Waveforms, labels: dict[str, Tensor]) -> None:
        """Put into ``labels`` the sketches ``(B, 64)`` of the utterances that segments were cut from."""
        assert self._sketch is not None
        assert waveforms.lengths is not None
        try:
            rows = segments.rows.unique()
            some = rows.to(waveforms.samples.device)
            samples = waveforms.samples[some].flatten(1)
            found = self._sketch(samples, waveforms.lengths.to(some.device)[some]).cpu()
            labels[_SKETCHES] = found.new_zeros(len(waveforms.samples), found.shape[1])
            labels[_SKETCHES][rows] = found
        except Exception as error:  # the embeddings are what matters
            self._sketch, self._sketch_error = None, f"{type(error).__name__}: {error}"
            self._store.labels.pop(_SKETCHES, None)
            self._store.forget(_STATISTICS)  # of which there are no more

    def _run(self, segments: Segments) -> dict[str, Any]:
        self._has_called = True
        with isolated(self._access.module, self._seed):
            return self._encoder.run(segments.samples.flatten(0, 1), self._access)

    def _keep(self, segments: Segments, outputs: dict[str, Any], labels: dict[str, Tensor]) -> None:
        pairs = segments.samples.shape[:2]
        at = uniform(mix(segments.keys[:, None] + torch.arange(pairs[1])), self._seed)  # one frame of each segment
        embeddings, middle = {}, at
        for layer, frames in self._encoder.frames(outputs, pairs.numel()).items():
            frames = frames.unflatten(0, pairs)
            embeddings[layer] = pool(frames, self._pooling)
            if self._pooling != "mean" and any(each.rate is None for each in self._labels):
                embeddings[_MEAN + layer] = pool(frames[:, :1], "mean")
            if any(each.rate is not None for each in self._labels):
                embeddings[_FRAME + layer], middle = select_frames(frames, at)
        if self._features is not None:
            try:
                frames = self._features(segments.samples.flatten(0, 1)).unflatten(0, pairs)
                embeddings[_FEATURES] = statistics = frame_statistics(frames)
                if self._pooling != "mean":
                    embeddings[_FEATURES] = pool(frames, self._pooling)
                    if self._sketch is not None:
                        embeddings[_STATISTICS] = statistics
            except Exception as error:  # the embeddings are what matters
                self._features, self._features_error = None, f"{type(error).__name__}: {error}"
                self._store.forget(_FEATURES)
                self._store.forget(_STATISTICS)
        seconds = (segments.starts + middle * self._sampler.segment) / self._sampler.sample_rate
        of_segments = {
            each.name: labels[each.name][segments.rows]
            if each.rate is None
            else labels_at(labels[each.name][segments.rows], each.rate, seconds)
            for each in self._labels
        }
        if _SKETCHES in labels:
            sketches = labels[_SKETCHES][segments.rows]
            of_segments[_SKETCHES] = torch.cat([segments.utterances[:, None], sketches], dim=1)
        self._store.add(segments.keys, segments.priorities, segments.groups, embeddings, of_segments)

    def _placeholder(self) -> Segments:
        """An anchor without partners, to call the model with where there is nothing to encode."""
        shape = self._segment_shape
        if shape is None:
            if self._sampler.layout.time_dim is not None and self.error is not None:
                raise self.error  # how many features a frame has is not known, and no other call would do
            shape = torch.Size([self._sampler.segment])
        module: Any = self._access.module
        samples = torch.zeros(1, 1, *shape, device=module.device, dtype=module.dtype)
        none = torch.empty(0, dtype=torch.int64)
        return Segments(samples, none, none, none, none, none, none, too_short=0, silent=0)

    def _unless_failed(self, step: Callable[[], T]) -> T | None:
        if self.error is None:
            try:
                return step()
            except Exception as error:
                self.error = error
        return None

    def _settle(self, everyone: list[tuple[bool, _Failure | None]]) -> None:
        failures = [failure for _, failure in everyone if failure is not None]
        if not failures:
            return
        if all(failure.is_bad_input for failure in failures) or all(
            failure is not None for has_called, failure in everyone if has_called
        ):
            raise NoEstimateError(failures[0].text)
        # Equal weights, and only some fail: neither the settings nor the model, but a broken machine or file.
        if self.error is not None:
            raise self.error
        raise RuntimeError(f"Another process failed to embed the segments of its utterances: {failures[0].text}")

    def estimates(
        self,
        new_metric: Callable[..., MIBound],
        primary: str | None = None,
    ) -> dict[Key, MIEstimate]:
        """The bound of the primary layer at each gap, then of the other layers at the first gap; the primary
        comes first. Estimating is shared out among the processes, and every one gets all results.

        Args:
            new_metric: Makes the metric that pairs are gathered and estimated by.
            primary: Name of a layer, or ``"best"`` for that of the highest bound. ``None``: the last one.

        Raises:
            NoEstimateError: On every process, if an estimate failed.
        """
        gap, *other_gaps = (gap.name for gap in self._sampler.gaps)
        layers = [(layer, gap) for layer in self._encoder.layer_names]
        of_layers = self._estimate_all(layers, new_metric)
        if primary == BEST_LAYER:
            first = max(layers, key=lambda key: of_layers[key].bound)
        else:
            first = (primary, gap) if primary is not None else layers[-1]
        of_gaps = self._estimate_all([(first[0], other) for other in other_gaps], new_metric)
        return {first: of_layers[first], **of_gaps, **of_layers}

    def of_features(self, new_metric: Callable[..., MIBound]) -> MIEstimate | str:
        """The bound of the features at the first gap, or why there is none."""
        for error in gather(self._features_error):
            if error is not None:
                return error
        key = (_FEATURES, self._sampler.gaps[0].name)
        return self._share_out({key: partial(self._metric, *key, new_metric)})[key]

    def null(self, new_metric: Callable[..., NullBound]) -> NullControl | str:
        """The null of the features' statistics at the first gap, and how many utterances have copies, or why there
        is none."""
        for error in gather(self._sketch_error) + gather(self._features_error):
            if error is not None:
                return error
        own = self._store.labels.get(_SKETCHES, torch.empty(0, 1 + FINGERPRINT_SIZE, dtype=torch.int64))
        everyone = gather(torch.cat([self._store.groups[: len(own), None], own], dim=1).unique(dim=0))
        groups, utterances, sketches = torch.cat(everyone).unique(dim=0).split([1, 1, FINGERPRINT_SIZE], dim=1)
        groups, names = groups[:, 0], utterances[:, 0]
        families, links = group_near_duplicates(names, sketches)
        copies = links[groups[links[:, 0]] != groups[links[:, 1]]].unique()
        ordered = names.sort()
        of_rows = families[ordered.indices[torch.searchsorted(ordered.values, own[:, 0].contiguous())]]
        key = ("null", self._sampler.gaps[0].name)
        found = self._share_out({key: partial(self._null_metric, of_rows, new_metric)})[key]
        return found if isinstance(found, str) else NullControl(found, len(copies), len(names))

    def labeled(self, new_metric: Callable[..., LabeledMIBound]) -> dict[Key, MIEstimate | str]:
        """The labelled bound for each layer and each name of labels, as :meth:`estimates`; in the place of an
        estimate that failed, why."""
        wanted = [(layer, labels) for layer in self._encoder.layer_names for labels in self._labels]
        metrics = {
            (layer, labels.name): partial(self._labeled_metric, layer, labels, new_metric)
            for layer, labels in wanted
        }
        return self._share_out(metrics)

    def _estimate_all(self, wanted: list[Key], new_metric: Callable[..., MIBound]) -> dict[Key, MIEstimate]:
        metrics = {key: partial(self._metric, *key, new_metric) for key in wanted}
        estimates = {}
        for key, found in self._share_out(metrics).items():
            if isinstance(found, str):
                raise NoEstimateError(found)
            estimates[key] = found
        return estimates

    def _share_out(self, metrics: Mapping[Key, Callable[[], BoundMetric]]) -> dict[Key, MIEstimate | str]:
        """Each metric's estimate, or why there is none, made by one of the processes in turn."""
        own: dict[Key, MIEstimate | str] = {}
        for key, make in metrics.items():
            metric = make()
            metric.sync()
            self._num_estimates += 1
            if self._num_estimates % world_size() == rank():
                try:
                    own[key] = metric.estimate()
                except Exception as error:  # the other processes wait for an answer
                    own[key] = f"{type(error).__name__}: {error}"
        merged = {key: found for part in gather(own) for key, found in part.items()}
        return {key: merged[key] for key in metrics}

    def _metric(self, layer: str, gap: str, new_metric: Callable[..., MIBound]) -> MIBound:
        metric = new_metric(sync_on_compute=False).to(self._access.module.device)
        z = self._store.embeddings(layer)
        if z is not None and len(z):
            partner = 1 + [each.name for each in self._sampler.gaps].index(gap)
            groups, keys = self._store.groups.to(z.device), self._store.keys.to(z.device)
            metric.update(z[:, 0], z[:, partner], groups, keys)
        return metric

    def _null_metric(self, families: Tensor, new_metric: Callable[..., NullBound]) -> NullBound:
        metric = new_metric(sync_on_compute=False).to(self._access.module.device)
        z = self._store.embeddings(_FEATURES if self._pooling == "mean" else _STATISTICS)
        if z is not None and len(z):
            numbers = (families, self._store.groups, self._store.keys)
            metric.update(z[:, 0], z[:, 1], *(each.to(z.device) for each in numbers))
        return metric

    def _labeled_metric(
        self, layer: str, labels: Labels, new_metric: Callable[..., LabeledMIBound]
    ) -> LabeledMIBound:
        """Of the mean of each anchor's frames; where labels have a rate, of one frame of each segment."""
        metric = new_metric(sync_on_compute=False).to(self._access.module.device)
        of_frames = labels.rate is not None
        z = self._store.embeddings((_FRAME if of_frames else "" if self._pooling == "mean" else _MEAN) + layer)
        if z is not None and len(z):
            segments = z.shape[1] if of_frames else 1
            keys = mix(self._store.keys[:, None] + torch.arange(segments)).flatten()
            groups = self._store.groups.repeat_interleave(segments)
            targets = self._store.labels[labels.name].flatten()
            metric.update(
                z[:, :segments].flatten(0, 1), targets.to(z.device), groups.to(z.device), keys.to(z.device)
            )
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
