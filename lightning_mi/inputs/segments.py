"""Segments of utterances: an anchor and a partner at each gap, placed by a hash of the utterance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_mi.hashing import content_hash, mix, uniform
from lightning_mi.inputs.batches import Waveforms
from lightning_mi.inputs.channels import Channels, apply_independent_channels
from lightning_mi.inputs.layout import WAVEFORMS, Layout
from lightning_mi.inputs.speed import draw_speeds, extent, play

_FAR_AT_LEAST_SECONDS = 0.5
_LATER_SECONDS = 0.08
_RANK_BITS = 55  # of a priority, the utterance's rank; above them stands the anchor's number
_LOW_BITS = (1 << _RANK_BITS) - 1
_NO_LABELS: Mapping[str, Tensor] = MappingProxyType({})


@dataclass(frozen=True)
class Gap:
    """Where the partner lies: a distance from the anchor's end, or another view of about the same moment.

    Attributes:
        name: As in the logged names: "near", "far", "same", "later", or the number.
        seconds: The distance from the anchor's end (of a view, from its start) to the partner's start, or its
            minimum if it is random.
        random: Whether it is drawn uniformly from what the utterance has room for.
        is_view: Whether the two overlap: views of moments that are ``seconds`` apart.
    """

    name: str
    seconds: float
    random: bool = False
    is_view: bool = False

    def offset(self, extent: int, sample_rate: float) -> int:
        """Samples from the anchor's start to the partner's, or their minimum; a segment takes ``extent``."""
        samples = self.seconds * sample_rate
        # "At least" half a second is a promise.
        return (0 if self.is_view else extent) + (math.ceil(samples) if self.random else round(samples))


_NAMED_GAPS = {
    "near": Gap("near", 0.0),
    "far": Gap("far", _FAR_AT_LEAST_SECONDS, random=True),
    "same": Gap("same", 0.0, is_view=True),
    "later": Gap("later", _LATER_SECONDS, is_view=True),
}
_CHOICES = 'a number of seconds, "same", "later", "near" or "far"'


def parse_gaps(gap_seconds: float | str | Sequence[float | str]) -> tuple[Gap, ...]:
    """Read the argument ``gap_seconds``: one distance or several, in seconds or by name.

    Raises:
        TypeError: If an entry is neither a number nor a string.
        ValueError: If there is none, one is negative, not finite, not a known name, or occurs twice.

    Example:
        >>> [gap.name for gap in parse_gaps(["near", 0.25, "far"])]
        ['near', '0.25', 'far']
    """
    is_one = isinstance(gap_seconds, (str, int, float))
    entries: Sequence[float | str] = [gap_seconds] if is_one else gap_seconds  # type: ignore[list-item,assignment]
    if not isinstance(entries, Sequence) or len(entries) == 0:
        raise ValueError(
            f"`gap_seconds` must be a distance or a list of distances, got {gap_seconds!r}. Each is {_CHOICES}."
        )
    gaps = tuple(_parse_gap(entry) for entry in entries)
    names = [gap.name for gap in gaps]
    if len(set(names)) < len(names):
        raise ValueError(f"`gap_seconds` must hold different distances, got {list(entries)!r}.")
    return gaps


def _parse_gap(entry: float | str) -> Gap:
    if isinstance(entry, str):
        if entry in _NAMED_GAPS:
            return _NAMED_GAPS[entry]
        raise ValueError(f"`gap_seconds` must be {_CHOICES}, got {entry!r}.")
    if isinstance(entry, bool) or not isinstance(entry, (int, float)):
        raise TypeError(f"`gap_seconds` must be {_CHOICES}, got {entry!r} of type {type(entry).__name__}.")
    if not (math.isfinite(entry) and entry >= 0):
        raise ValueError(f"`gap_seconds` must not be negative and must be finite, got {entry!r}.")
    return Gap(f"{entry:g}", float(entry))


class Segments(NamedTuple):
    """The segments of n anchors in a batch and of their partners, with all that belongs to each anchor.

    Attributes:
        samples: ``(n, 1 + G, S)``: the anchor, then its partner at each of the G distances, in the layout of the
            batch: ``(n, 1 + G, 1, S)``, ``(n, 1 + G, S, F)`` or ``(n, 1 + G, F, S)`` if that is another.
        keys: ``(n,)`` int64 on the host, a hash of the utterance's samples and of the anchor's number in it.
        priorities: ``(n,)`` int64 on the host, not negative. If not all can be used, the lowest should be: first
            anchors of all utterances come before second ones.
        groups: ``(n,)`` int64 on the host: the batch's own groups, else a hash of the utterance.
        utterances: ``(n,)`` int64 on the host, a hash of the utterance.
        rows: ``(n,)`` int64 on the host, the utterance's row in the batch.
        starts: ``(n, 1 + G)`` int64 on the host, the first sample of the utterance that is in each segment.
        lengths: ``(n, 1 + G)`` int64 on the host, how many samples of the utterance are in it: S unless it is
            played at another speed.
        too_short: Number of other utterances in the batch that have no room for the segments.
        silent: Number of utterances with a digitally silent (constant) or non-finite segment.
        part_size: Number of anchors whose segments hold no more samples than the batch did, at least 1.
        labels: By name ``(n,)`` or ``(n, F)`` int64 on the host, labels of the utterance or of its frames.
        fingerprints: ``(n, 64)`` int64 on the host, the fingerprint of the utterance; ``None`` if not computed.
        speakers: ``(n,)`` int64 on the host, the speaker that the batch names; ``None`` if it names none.
    """

    samples: Tensor
    keys: Tensor
    priorities: Tensor
    groups: Tensor
    utterances: Tensor
    rows: Tensor
    starts: Tensor
    lengths: Tensor
    too_short: int
    silent: int
    part_size: int
    labels: Mapping[str, Tensor] = _NO_LABELS
    fingerprints: Tensor | None = None
    speakers: Tensor | None = None

    def select(self, rows: Tensor | slice) -> Segments:
        """Some of the anchors: a mask ``(n,)`` bool on the host, or a slice."""
        if isinstance(rows, Tensor) and bool(rows.all()):
            return self
        on_device = rows.to(self.samples.device) if isinstance(rows, Tensor) else rows
        return self._replace(
            samples=self.samples[on_device],
            keys=self.keys[rows],
            priorities=self.priorities[rows],
            groups=self.groups[rows],
            utterances=self.utterances[rows],
            rows=self.rows[rows],
            starts=self.starts[rows],
            lengths=self.lengths[rows],
            labels={name: values[rows] for name, values in self.labels.items()},
            fingerprints=None if self.fingerprints is None else self.fingerprints[rows],
            speakers=None if self.speakers is None else self.speakers[rows],
        )

    def split(self) -> list[Segments]:
        """Parts of at most ``part_size`` anchors."""
        starts = range(0, len(self.samples), self.part_size)
        return [self.select(slice(start, start + self.part_size)) for start in starts]


@dataclass(frozen=True)
class SegmentSampler:
    """Places segments by a hash of the utterance and the seed, the same at every epoch and in every batch.

    Args:
        segment_seconds: Length of a segment, in seconds.
        gaps: Where the partners lie: none starts before the anchor.
        sample_rate: Sampling rate of the waveforms in Hz, or frames a second of feature sequences. Lengths and
            distances are rounded to whole samples (frames), random distances up.
        seed: Any integer.
        pairs_per_utterance: Maximum number of anchors in one utterance: one, and one more for each further
            segment's length that there is room for.
        layout: Layout of the utterances in the batch.
        channels: ``"shared"``: the segments as they are. ``"independent"`` (waveforms only): each through an
            acoustic channel of its own (:func:`lightning_mi.inputs.channels.apply_independent_channels`).
        speed: 1: the segments as they are. Above 1 (waveforms only): each is played at a random speed of its own,
            log-uniform between ``1 / speed`` and ``speed``, about its centre
            (:func:`lightning_mi.inputs.speed.play`). It then takes the room of ``speed`` segments, and distances
            are those between these.

    Example:
        >>> import torch
        >>> sampler = SegmentSampler(0.5, parse_gaps("near"), sample_rate=16000, seed=0)
        >>> samples = torch.randn(3, 48000, generator=torch.Generator().manual_seed(0))
        >>> segments = sampler(Waveforms(samples, torch.tensor([48000, 15999, 16000])))
        >>> segments.samples.shape, segments.too_short
        (torch.Size([2, 2, 8000]), 1)
    """

    segment_seconds: float
    gaps: tuple[Gap, ...]
    sample_rate: float
    seed: int
    pairs_per_utterance: int = 1
    layout: Layout = WAVEFORMS
    channels: Channels = "shared"
    speed: float = 1.0

    @property
    def segment_length(self) -> int:
        """Length of a segment in samples."""
        return round(self.segment_seconds * self.sample_rate)

    @property
    def shortest(self) -> int:
        """Length in samples of the shortest utterance that has room for the anchor and every partner."""
        return self._extent + max(self._offsets())

    @property
    def _extent(self) -> int:
        """Samples of the utterance that a segment may need."""
        return extent(self.segment_length, self.speed)

    def _offsets(self) -> list[int]:
        return [gap.offset(self._extent, self.sample_rate) for gap in self.gaps]

    def __call__(self, waveforms: Waveforms) -> Segments:
        """Cut the segments of every utterance that is long enough and not silent in any of them."""
        lengths = waveforms.lengths
        assert lengths is not None
        frames = self.layout.frames(waveforms.samples)  # (B, T, F)
        long_enough = torch.nonzero(lengths.to(frames.device) >= self.shortest)[:, 0]
        frames, lengths = frames[long_enough], lengths.to(frames.device)[long_enough]
        utterances = content_hash(frames.flatten(1), lengths * frames.shape[2]).cpu()
        lengths = lengths.cpu()
        rows, rounds = self._anchors(lengths)
        starts = self._starts(utterances[rows], rounds, lengths[rows])
        firsts = starts.to(frames.device) + (rows * frames.shape[1]).to(frames.device)[:, None]
        cut = frames.flatten(0, 1)[firsts[:, :, None] + torch.arange(self._extent, device=frames.device)]
        sounding = (_is_sounding(self._core(cut)) & torch.isfinite(cut).flatten(2).all(dim=2)).all(dim=1)
        used = sounding.cpu()
        groups = utterances
        if waveforms.groups is not None:
            groups = waveforms.groups.to(long_enough.device)[long_enough].to("cpu", torch.int64)
        keys = mix(utterances[rows] + rounds)
        taken = torch.full_like(starts, self.segment_length)
        if self.speed > 1:
            speeds = draw_speeds(keys, starts.shape[1], self.speed, self.seed)
            cut = play(cut[..., 0], speeds, self.segment_length)[..., None]
            taken = (self.segment_length * speeds).round().long()
            starts = starts + (self._extent - taken) // 2
        if self.channels == "independent":
            cut = apply_independent_channels(cut[..., 0], keys, self.sample_rate, self.seed)[..., None]
        segments = self.layout.restore(cut[sounding], like=waveforms.samples)
        rank = (mix(utterances, self.seed)[rows] >> 8) & _LOW_BITS
        return Segments(
            samples=segments,
            keys=keys[used],
            priorities=((rounds << _RANK_BITS) + rank)[used],
            groups=groups[rows][used],
            utterances=utterances[rows][used],
            rows=long_enough.cpu()[rows][used],
            starts=starts[used],
            lengths=taken[used],
            too_short=waveforms.samples.shape[0] - len(long_enough),
            silent=len(utterances) - len(rows[used].unique()),
            part_size=max(1, waveforms.samples.numel() // math.prod(segments.shape[1:])),
        )

    def _anchors(self, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """For each anchor of each utterance, the utterance's row and the anchor's number in it."""
        counts = (1 + (lengths - self.shortest) // self.segment_length).clamp(max=self.pairs_per_utterance)
        rows = torch.arange(len(lengths)).repeat_interleave(counts)
        rounds = torch.arange(len(rows)) - (counts.cumsum(0) - counts)[rows]
        return rows, rounds

    def _starts(self, utterances: Tensor, rounds: Tensor, lengths: Tensor) -> Tensor:
        """First samples of the segments, ``(n, 1 + G)``, from hashes, numbers and lengths, ``(n,)`` each."""
        anchor = self._draw(utterances, rounds, 0, lengths - self.shortest)
        starts = [anchor]
        for number, (gap, offset) in enumerate(zip(self.gaps, self._offsets(), strict=True), start=1):
            start = anchor + offset
            if gap.random:
                start = start + self._draw(utterances, rounds, number, lengths - self._extent - start)
            starts.append(start)
        return torch.stack(starts, dim=1)

    def _core(self, cut: Tensor) -> Tensor:
        """The middle of segments ``(n, 1 + G, L, F)``, which is in them at any speed."""
        around = (self._extent - int(self.segment_length / self.speed)) // 2
        return cut[:, :, around : self._extent - around]

    def _draw(self, utterances: Tensor, rounds: Tensor, number: int, highest: Tensor) -> Tensor:
        """Integers between 0 and ``highest``, both included, one for each anchor; ``number`` tells the draws of
        one anchor apart."""
        share = uniform(mix(utterances) + rounds, seed=1000 * self.seed + number)
        return (share * (highest + 1)).long()


def anchor_numbers(priorities: Tensor) -> Tensor:
    """The numbers of the anchors in their utterances, from 0, by their ``priorities`` ``(n,)`` int64.

    Example:
        >>> sampler = SegmentSampler(0.5, parse_gaps("near"), 1000, seed=0, pairs_per_utterance=2)
        >>> segments = sampler(Waveforms(torch.arange(4000.0).view(2, 2000), torch.tensor([2000, 1000])))
        >>> anchor_numbers(segments.priorities)
        tensor([0, 1, 0])
    """
    return priorities >> _RANK_BITS


def _is_sounding(cut: Tensor) -> Tensor:
    """Which of the segments ``(n, 1 + G, S, F)`` change over time; of one frame alone, which are not all zeros."""
    before = cut[:, :, :1] if cut.shape[2] > 1 else 0
    return (cut != before).flatten(2).any(dim=2)
