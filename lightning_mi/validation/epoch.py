"""One validation epoch on all processes: batches in, estimates out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from lightning_mi.arguments import BEST_LAYER, Arguments
from lightning_mi.controls.fingerprints import FINGERPRINT_SIZE
from lightning_mi.controls.input_baseline import frame_statistics, input_frames, pool_input
from lightning_mi.controls.null_control import NullControl, NullFinding, fingerprint_utterances
from lightning_mi.distributed import gather, rank
from lightning_mi.embedding.encoder import Encoder
from lightning_mi.embedding.pooling import pool, select_frames
from lightning_mi.embedding.strategy import StrategyForward
from lightning_mi.embedding.trial import Answer, assume
from lightning_mi.estimator import MIEstimate
from lightning_mi.estimator.num_clusters import capped_num_clusters, default_num_clusters
from lightning_mi.failures import Failures, NoEstimateError
from lightning_mi.hashing import mix, uniform
from lightning_mi.inputs.batches import Waveforms, read_batch
from lightning_mi.inputs.labels import Labels, labels_at, read_labels
from lightning_mi.inputs.pairs_per_utterance import MANY_PAIRS, default_pairs_per_utterance
from lightning_mi.inputs.rates import resampled
from lightning_mi.inputs.segments import Segments, SegmentSampler, anchor_numbers
from lightning_mi.inputs.structure import NoUtterancesError
from lightning_mi.inputs.too_short import why_too_short
from lightning_mi.metrics.bounds import LabeledMIBound, MIBound, NullBound
from lightning_mi.threads import few_threads
from lightning_mi.torch_defaults import torch_defaults, where_float64_is
from lightning_mi.validation.estimates import (
    DIFFERENCES,
    FEWEST_SPEAKERS,
    Findings,
    Key,
    Outcome,
    Progress,
    SharedWork,
    difference,
    labeled_metric,
    no_progress,
    pair_metric,
)
from lightning_mi.validation.memory import check_memory, free_memory
from lightning_mi.validation.pair_store import Column, Kind, PairStore

C = TypeVar("C")

_FEWEST_PAIRS = 4  # two to fit on and two to score
_OF_THE_MODEL = (Kind.LAYER, Kind.ANCHOR_MEAN, Kind.ONE_FRAME)
_INPUT, _INPUT_STATISTICS = Column(Kind.INPUT), Column(Kind.INPUT_STATISTICS)
_SPEAKER = Column(Kind.SPEAKER)
_UTTERANCE, _FINGERPRINT = Column(Kind.UTTERANCE), Column(Kind.FINGERPRINT)


class ValidationEpoch:
    """What one process gathers between the start and the end of one validation epoch.

    Args:
        arguments: Arguments of the callback.
        sampler: Cuts segments, up to as many pairs an utterance as can be wanted.
        encoder: What is called for embeddings.
        forward: How it is called.
        held_num_clusters: K of the validations before, kept unless far fewer pairs are left. ``None``: there were
            none; K is the argument's, or by the number of pairs.
        measure_input: Whether to measure the input baseline.
        measure_null: Whether to measure the null control.
        choose_pairs: Whether the number of pairs per utterance follows the number of utterances
            (:func:`lightning_mi.inputs.pairs_per_utterance.default_pairs_per_utterance`), up to the sampler's.
            Else it is the sampler's.
        answer: What a trial call has told of the encoder before; ``None``: it is asked before the first call.

    Attributes:
        answer: What the trial call has told; ``None`` if there has been none.
        doubt: What is to be said of the first batch's embeddings beside those of the trial call.
        failures: Failures of this process to read, encode or store segments.
        seconds: Time spent in :meth:`timed`.
        rates: Sampling rates in Hz that batches gave and that are not ``sample_rate``.
        has_rates: Whether a batch gave any sampling rate.
        loaders: Numbers of the dataloaders whose batches held utterances.
        waveforms: What was read from the batch in hand; ``None`` before it was read and after it was encoded.
    """

    def __init__(
        self,
        arguments: Arguments,
        sampler: SegmentSampler,
        encoder: Encoder,
        forward: StrategyForward,
        held_num_clusters: int | None,
        measure_input: bool,
        measure_null: bool,
        answer: Answer | None = None,
        choose_pairs: bool = False,
    ) -> None:
        self.answer = answer
        self.doubt: str | None = None
        self.failures = Failures()
        self.seconds = 0.0
        self.rates: set[float] = set()
        self.has_rates = False
        self.loaders: set[int] = set()
        self.waveforms: Tensor | None = None
        self._without_utterances: dict[int, NoUtterancesError] = {}
        self._longest = 0  # in samples
        self._segments: Segments | None = None
        self._arguments = arguments
        self._sampler = sampler
        self._encoder = encoder if answer is None else answer.applied_to(encoder)
        self._forward = forward
        self._held_num_clusters = held_num_clusters
        self._choose_pairs = choose_pairs
        self._pairs_per_utterance = sampler.pairs_per_utterance
        self._of_utterances = [labels for labels in arguments.label_sources if labels.rate is None]
        self._of_frames = [labels for labels in arguments.label_sources if labels.rate is not None]
        self._input_failures = Failures() if measure_input else None
        self._null_failures = Failures() if measure_null else None
        with torch_defaults():
            many = MANY_PAIRS if arguments.pairs_per_utterance is None else None
            self._pairs = PairStore(arguments.max_pairs, many)
        self._too_short = self._silent = self._non_finite = 0
        self._num_frames: dict[str, int | None] = {}

    @property
    def in_lockstep(self) -> bool:
        """Whether every process must call the model equally often."""
        return self._forward.in_lockstep

    # ---- a batch: read, cut, encode, store

    def add(self, batch: Any, loader: int = 0) -> None:
        """:meth:`read` a batch and :meth:`encode` it."""
        self.read(batch, loader)
        self.encode()

    def read(self, batch: Any, loader: int = 0) -> None:
        """Cut the segments of a batch of the dataloader of this number and hold them until :meth:`encode`.

        They are copies: what the validation step changes in its batch afterwards is not in them. A batch without
        anything like utterances is passed over, if those of another dataloader have them (:meth:`settle`). Any
        other exception is kept in ``failures``, after which nothing is added.
        """
        self._segments = self.failures.attempt(partial(self._sample_or_pass, batch, loader))

    def encode(self, as_in_step: int | None = None) -> None:
        """Encode the segments that were read, those that may be used, and keep one vector of each.

        The first exception is kept in ``failures``, after which nothing is added. If the strategy needs processes
        in lockstep, exceptions of the model are raised (:meth:`StrategyForward.encode`).

        Args:
            as_in_step: Number of dimensions of the waveforms that the validation step gave the encoder, if known.
        """
        segments, self._segments, self.waveforms = self._segments, None, None
        if self._forward.is_uninitialized:
            return
        check_rows = False
        if self.answer is None and segments is not None and len(segments.samples):
            self.answer = self.failures.attempt(partial(self._ask, segments, as_in_step))
            check_rows = self.answer is not None
        for part, frames in self._forward.encode(self._encoder, segments, self.failures):
            if self.answer is None:  # in lockstep
                self.answer = assume(self._encoder, frames)
            if check_rows and self.answer is not None:
                self.doubt, check_rows = self.answer.doubt_of_rows(frames), False
                self.answer = replace(self.answer, embeddings={})
            with torch_defaults(), few_threads(part.samples.numel()):
                self.failures.attempt(partial(self._store, part, frames))

    def _ask(self, segments: Segments, as_in_step: int | None) -> Answer | None:
        arguments = self._arguments
        rows = segments.samples.flatten(0, 1)
        answer = self._forward.ask(self._encoder, rows, arguments.layout, arguments.sample_rate, as_in_step)
        if answer is not None:
            self._encoder = answer.applied_to(self._encoder)
        return answer

    def settle(self) -> set[int]:
        """The numbers of the dataloaders that are left out, since none of their batches held utterances.

        If there are no others, or some batches of one held utterances and some did not, that is a failure.
        """
        missing = self._without_utterances
        unclear = [loader for loader in missing if not self.loaders or loader in self.loaders]
        if unclear and self.failures.error is None:
            self.failures.error = missing[unclear[0]]
        return set(missing) - set(unclear)

    def why_too_short(self) -> str | None:
        """Why no utterance so far has room for the segments, and what would fit; ``None`` if one has. Every
        process must call it."""
        return why_too_short(self._sampler, gather(self._longest))

    def _sample(self, batch: Any, loader: int) -> Segments:
        arguments = self._arguments
        waveforms, rates, speakers = read_batch(
            batch, arguments.layout, arguments.batch_to_waveforms, arguments.sample_rate
        )
        self.loaders.add(loader)
        self.has_rates |= rates is not None
        samples, lengths, groups = waveforms
        self.waveforms = samples
        assert lengths is not None
        samples = samples.to(self._forward.device)  # arrays of numpy, objects that Lightning does not move
        if rates is not None and bool((rates != arguments.sample_rate).any()):
            self.rates.update(rate for rate in rates.tolist() if rate != arguments.sample_rate)
            if arguments.batch_to_waveforms is None:
                samples, lengths = resampled(samples, lengths, rates, arguments.sample_rate)
        waveforms = Waveforms(samples, lengths, groups)
        self._longest = max(self._longest, int(lengths.max()))
        labels = read_labels(self._arguments.label_sources, batch, waveforms.samples.shape[0])
        device = waveforms.samples.device
        waveforms = waveforms._replace(samples=where_float64_is(waveforms.samples))
        with torch_defaults(), few_threads(waveforms.samples.numel()):
            segments = self._cut(waveforms, labels, speakers)
        return segments._replace(samples=segments.samples.to(device))

    def _cut(self, waveforms: Waveforms, labels: dict[str, Tensor], speakers: Tensor | None) -> Segments:
        segments = self._sampler(waveforms)
        if speakers is not None:
            segments = segments._replace(speakers=speakers[segments.rows])
        segments = segments._replace(labels={name: values[segments.rows] for name, values in labels.items()})
        self._too_short += segments.too_short
        self._silent += segments.silent
        segments = segments.select(self._pairs.admits(segments.keys, segments.priorities))
        if self._null_failures is not None and len(segments.samples):
            fingerprint = partial(fingerprint_utterances, segments, waveforms, self._arguments.sample_rate)
            return self._null_failures.attempt(fingerprint) or segments
        return segments

    def _sample_or_pass(self, batch: Any, loader: int) -> Segments | None:
        try:
            return self._sample(batch, loader)
        except NoUtterancesError as error:
            self._without_utterances.setdefault(loader, error)
            return None

    def _store(self, segments: Segments, embeddings: dict[str, Tensor]) -> None:
        shape = segments.samples.shape[:2]
        if not self._num_frames:
            free = free_memory(next(iter(embeddings.values())).device)
            check_memory(embeddings, shape[1], self._arguments.max_pairs, free)
        at = uniform(mix(segments.keys[:, None] + torch.arange(shape[1])), self._arguments.seed)
        pooling = self._arguments.pooling
        columns, middle = {}, at
        for layer, frames in embeddings.items():
            self._num_frames[layer] = frames.shape[1] if frames.ndim == 3 else None
            frames = frames.unflatten(0, shape)
            columns[Column(Kind.LAYER, layer)] = pool(frames, pooling)
            if self._of_utterances and pooling != "mean":
                columns[Column(Kind.ANCHOR_MEAN, layer)] = pool(frames[:, :1], "mean")
            if self._of_frames:
                columns[Column(Kind.ONE_FRAME, layer)], middle = select_frames(frames, at)
        for labels in self._of_utterances:
            columns[Column(Kind.LABELS, labels.name)] = segments.labels[labels.name]
        seconds = (segments.starts + middle * segments.lengths) / self._sampler.sample_rate
        for labels in self._of_frames:
            assert labels.rate is not None
            found = labels_at(segments.labels[labels.name], labels.rate, seconds)
            columns[Column(Kind.LABELS, labels.name)] = found
        if segments.speakers is not None:
            columns[_SPEAKER] = segments.speakers
        columns |= self._columns_of_the_input(segments)
        self._pairs.add(segments.keys, segments.priorities, segments.groups, columns)

    def _columns_of_the_input(self, segments: Segments) -> dict[Column, Tensor]:
        """Those of the input baseline and of the null control; a stage that has failed has none."""
        columns: dict[Column, Tensor] = {}
        arguments = self._arguments
        frames = cache(partial(input_frames, segments.samples, arguments.layout, arguments.sample_rate))
        if self._input_failures is not None:
            pooled = self._input_failures.attempt(lambda: pool_input(frames(), arguments.pooling))
            if pooled is not None:
                columns[_INPUT] = pooled
        if self._null_failures is not None and segments.fingerprints is not None:
            statistics = self._null_failures.attempt(lambda: frame_statistics(frames()))
            if statistics is not None:
                columns[_INPUT_STATISTICS] = statistics
                columns[_UTTERANCE], columns[_FINGERPRINT] = segments.utterances, segments.fingerprints
        return columns

    # ---- the end of the epoch: agree on the pairs, estimate

    def finish(self, progress: Progress = no_progress) -> Findings:
        """Agree with the other processes on the pairs and estimate; every process must call it.

        Args:
            progress: Told when each estimate begins.

        Raises:
            NoEstimateError: On every process, if there was bad input, every process that called the model failed,
                too few pairs are left, or the bound could not be estimated.
            Exception: On every process, if only some of those that called the model failed: their error, and on
                the others a RuntimeError that quotes it.
        """
        self.settle()
        self.failures.raise_or_skip(self._forward.has_called)
        self._check_agreement()
        on_host = self._forward.device.type == "cpu"
        self._work = SharedWork(self._num_estimates(), progress, on_host)
        with torch_defaults():
            return self._estimate()

    def _num_estimates(self) -> int:
        layers, of_all = len(self._encoder.layer_names), len(self._gaps_of_all_layers())
        controls = [each for each in (self._input_failures, self._null_failures) if each is not None]
        bounds = layers * of_all + len(self._sampler.gaps) - of_all
        return layers * len(self._arguments.label_sources) + bounds + len(controls)

    def _check_agreement(self) -> None:
        answers = [answer for answer in gather(self.answer and self.answer.choices) if answer is not None]
        if any(answer != answers[0] for answer in answers):
            raise NoEstimateError(
                "processes have found the embedding at different places of the model's output: "
                f"{', '.join(map(str, answers))}. Pass `embed=`, a callable that returns (B, T, D) or (B, D)."
            )

    def _estimate(self) -> Findings:
        keys = self._synchronize()
        num_pairs = len(keys)
        arguments, held = self._arguments, self._held_num_clusters
        wanted = held or arguments.num_clusters or default_num_clusters(num_pairs)
        num_clusters = capped_num_clusters(wanted, num_pairs, held is not None)
        new_bound = partial(
            MIBound, num_clusters, arguments.seed, arguments.quantizer, arguments.probe, arguments.bound
        )
        # Of utterances: what is a speaker's own would else never be both fitted and scored.
        labeled = self._estimate_labeled()
        num_speakers = self._group_by_speaker()
        return Findings(
            estimates=self._estimate_bounds(new_bound),
            labeled=labeled,
            input_baseline=_control(self._input_failures, partial(self._estimate_input_baseline, new_bound)),
            null=_control(self._null_failures, partial(self._estimate_null, num_clusters)),
            num_clusters=num_clusters,
            num_pairs=num_pairs,
            skipped=self._too_short + self._silent + self._non_finite,
            reasons=self._reasons(),
            num_frames=next((each for each in gather(self._num_frames) if each), {}),
            is_random=bool(self._forward.is_random),
            draws_in=() if self.answer is None else self.answer.draws_in,
            keys=keys,
            num_speakers=num_speakers,
            pairs_per_utterance=self._pairs_per_utterance,
        )

    def _group_by_speaker(self) -> int | None:
        """Make the speakers the groups, if batches name them and they are not too few; how many, ``None`` if not
        named for all."""
        pairs = self._pairs
        own = set(pairs[_SPEAKER].tolist()) if _SPEAKER in pairs.columns else None
        everyone = gather(own if len(pairs.keys) else set())
        named = [speakers for speakers in everyone if speakers is not None]
        if len(named) < len(everyone):
            return None
        num_speakers = len(set().union(*named))
        if num_speakers >= FEWEST_SPEAKERS and len(pairs.keys):
            pairs.groups = pairs[_SPEAKER].clone()
        return num_speakers

    def _synchronize(self) -> Tensor:
        """Leave in the store this process's share of the pairs that all agree on; the keys of all of them."""
        everyone = gather((self._pairs.keys, self._pairs.priorities))
        keys, priorities = (torch.cat(column) for column in zip(*everyone, strict=True))
        self._pairs.keep(keys, priorities)
        if self._choose_pairs:
            num_utterances = len(keys[anchor_numbers(priorities) == 0].unique())
            chosen = default_pairs_per_utterance(num_utterances, self._arguments.max_pairs)
            self._pairs_per_utterance = min(chosen, self._sampler.pairs_per_utterance)
            self._pairs.drop(anchor_numbers(self._pairs.priorities) >= self._pairs_per_utterance)
        # The copies with which a DistributedSampler evens out the processes: the first process keeps one.
        before = keys[: sum(len(own) for own, _ in everyone[: rank()])]
        self._pairs.drop(torch.isin(self._pairs.keys, before))
        finite = torch.ones(len(self._pairs.keys), dtype=torch.bool)
        for column in self._pairs.columns:
            if column.kind in _OF_THE_MODEL:
                finite &= torch.isfinite(self._pairs[column]).flatten(1).all(dim=1).cpu()
        # Utterances, not pairs: those whose first pair is not finite.
        non_finite = int((~finite & (anchor_numbers(self._pairs.priorities) == 0)).sum())
        self._pairs.drop(~finite)
        counts = gather((self._too_short, self._silent, non_finite))
        self._too_short, self._silent, self._non_finite = map(sum, zip(*counts, strict=True))
        kept = torch.cat(gather(self._pairs.keys))
        self._check_enough(len(kept))
        return kept

    def _check_enough(self, num_pairs: int) -> None:
        if num_pairs < _FEWEST_PAIRS:
            shortest, rate = self._sampler.shortest, self._sampler.sample_rate
            frames = "" if self._sampler.layout.time_dim is None else f" frames a second ({shortest} frames)"
            skipped = self._too_short + self._silent + self._non_finite
            raise NoEstimateError(
                f"{num_pairs} usable pairs of segments, {skipped} utterances left out ({self._reasons()}). "
                f"It needs at least {_FEWEST_PAIRS} pairs, from utterances of {shortest / rate:g} s or more at "
                f"`sample_rate={rate:g}`{frames}: check `segment_seconds`, `gap_seconds` and the validation data."
            )
        own = self._pairs.groups.unique()[:2].tolist()
        if len({group for groups in gather(own) for group in groups}) == 1:
            raise NoEstimateError(
                f"all {num_pairs} usable pairs of segments are of one group (utterance, speaker), and no "
                "group stands on both sides of the split. Validate on more groups."
            )

    def _reasons(self) -> str:
        return (
            f"{self._too_short} too short, {self._silent} silent, {self._non_finite} with NaN or infinity in "
            "their embeddings"
        )

    def _estimate_bounds(self, new_bound: partial[MIBound]) -> dict[Key, MIEstimate]:
        """The bound of the primary layer at each gap, then of the other layers at those that they are logged
        for."""
        gaps, of_all = [gap.name for gap in self._sampler.gaps], self._gaps_of_all_layers()

        def estimate(wanted: list[Key]) -> dict[Key, MIEstimate]:
            metrics = {}
            for layer, gap in wanted:
                column, partner = Column(Kind.LAYER, layer), 1 + gaps.index(gap)
                metrics[layer, gap] = partial(self._pair_metric, new_bound, column, partner)
            estimates = {}
            for key, outcome in self._work.compute(metrics).items():
                if outcome.estimate is None:
                    raise NoEstimateError(outcome.reason)
                estimates[key] = outcome.estimate
            return estimates

        layers = self._encoder.layer_names
        found = estimate([(layer, gap) for gap in of_all for layer in layers])
        primary = self._primary_layer(found, gaps[0])
        found |= estimate([(primary, gap) for gap in gaps if gap not in of_all])
        first = [(primary, gap) for gap in gaps]
        return {key: found[key] for key in [*first, *(key for key in found if key not in first)]}

    def _gaps_of_all_layers(self) -> list[str]:
        """The gaps that all layers are logged for: the first, and those of a difference."""
        gaps = [gap.name for gap in self._sampler.gaps]
        of_differences = [pair for pair in DIFFERENCES.values() if set(pair) <= set(gaps)]
        return [gap for gap in gaps if gap == gaps[0] or any(gap in pair for pair in of_differences)]

    def _primary_layer(self, estimates: dict[Key, MIEstimate], gap: str) -> str:
        layers, wanted = self._encoder.layer_names, self._arguments.primary_layer
        if wanted is None:
            return layers[-1]
        if wanted != BEST_LAYER or BEST_LAYER in layers:
            return wanted
        contents = {layer: difference(estimates, layer, "content") for layer in layers}
        return max(layers, key=lambda layer: (contents[layer] or (estimates[layer, gap].bound,))[0])

    def _pair_metric(self, new_bound: partial[MIBound], column: Column, partner: int) -> MIBound:
        metric = new_bound(sync_on_compute=False).to(self._forward.device)
        return pair_metric(metric, self._pairs, column, partner)

    def _estimate_labeled(self) -> dict[Key, Outcome]:
        metrics = {
            (layer, labels.name): partial(self._labeled_metric, layer, labels)
            for layer in self._encoder.layer_names
            for labels in self._arguments.label_sources
        }
        return self._work.compute(metrics)

    def _labeled_metric(self, layer: str, labels: Labels) -> LabeledMIBound:
        """For labels of utterances the mean of each anchor's frames, for labels of frames one frame a segment."""
        kind = Kind.LAYER if self._arguments.pooling == "mean" else Kind.ANCHOR_MEAN
        if labels.rate is not None:
            kind = Kind.ONE_FRAME
        metric = LabeledMIBound(self._arguments.seed, self._arguments.probe, sync_on_compute=False)
        metric = metric.to(self._forward.device)
        return labeled_metric(metric, self._pairs, Column(kind, layer), Column(Kind.LABELS, labels.name))

    def _estimate_input_baseline(self, new_bound: partial[MIBound]) -> Outcome:
        return self._work.compute({"input": partial(self._pair_metric, new_bound, _INPUT, 1)})["input"]

    def _estimate_null(self, num_clusters: int) -> NullFinding | Outcome:
        pairs = self._pairs
        if len(pairs.keys):
            columns = pairs[_INPUT_STATISTICS], pairs.groups, pairs.keys, pairs[_UTTERANCE], pairs[_FINGERPRINT]
            control = NullControl(*columns)
        else:
            none = torch.empty(0, dtype=torch.int64)
            control = NullControl(None, none, none, none, none.new_empty(0, FINGERPRINT_SIZE))
        clusters, duplicates, utterances = control.near_duplicates()

        def new_null() -> NullBound:
            metric = NullBound(num_clusters, self._arguments.seed, sync_on_compute=False)
            return metric.to(self._forward.device)

        outcome = self._work.compute({"null": partial(control.metric, clusters, new_null)})["null"]
        return outcome if outcome.estimate is None else NullFinding(outcome.estimate, duplicates, utterances)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Add the time that the body takes to ``seconds``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - start


def _control(failures: Failures | None, estimate: Callable[[], C]) -> C | Outcome | None:
    """``estimate()`` of a control on every process; why not, if it has failed on any; ``None`` if it is not due on
    all. Every process must call it."""
    if not all(gather(failures is not None)) or failures is None:
        return None
    reason = failures.reason_of_any_process()
    return estimate() if reason is None else Outcome(reason=reason)
