"""What the scores are taken of: segments of the scoring corpus, each cut once and heard in several ways."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm  # type: ignore[import-untyped,unused-ignore]

from lightning_mi.inputs.batches import Waveforms
from lightning_mi.inputs.segments import SegmentSampler, parse_gaps

from ..data.utterances import Recording, Utterance
from .channel import Channel

ANCHOR, NEAR, LATER, FAR, AGAIN = "anchor", "near", "0.1", "far", "again"
_GAPS: tuple[float | str, ...] = ("near", 0.1, "far")

VARIED, FIXED, INDEPENDENT, REVOICED, SHORT = "varied", "fixed", "independent", "revoiced", "short"
HARSH, BRIEF, LONG = "harsh", "brief", "long"
VIEWS: Mapping[str, tuple[str, ...]] = {
    VARIED: (ANCHOR, NEAR, LATER, FAR),
    FIXED: (ANCHOR, NEAR, FAR),
    INDEPENDENT: (ANCHOR, NEAR, LATER, FAR),
    REVOICED: (ANCHOR, NEAR, FAR, AGAIN),
    SHORT: (ANCHOR, NEAR, FAR),
    HARSH: (ANCHOR, NEAR, FAR),
    BRIEF: (ANCHOR, NEAR, FAR),
    LONG: (ANCHOR, NEAR),
}
"""The segments of each view, in the order of their numbers.

- varied: as the scoring corpus sounds, an own channel for each utterance
- fixed: the same segments where all utterances have one channel
- independent: as varied, and each segment once more through a channel of its own, so that two segments of an
  utterance do not share one
- revoiced: as independent, and each segment at a speed of its own, which moves pitch and formants; "again" is the
  anchor at another speed, through another channel
- short: the samples of varied that lie within `short_seconds` of the border between anchor and near
- harsh: as independent, through channels that differ more
- brief: the samples of independent that lie within `brief_seconds` of that border
- long: `long_seconds` on either side of that border, through channels as independent's; only where there is room
"""


@dataclass(frozen=True)
class Segments:
    """Segments of N anchors and their partners.

    Attributes:
        views: For each of :data:`VIEWS` ``(n, segments, samples)`` int16, of those anchors that the view has.
        rows: For each of :data:`VIEWS` ``(n,)`` int64, which anchors those are: all, but for the view "long".
        groups: ``(N,)`` int64, the utterance.
        utterances: Of the groups, by number.
        ends: ``(N,)`` float64, end of the anchor in its utterance, in seconds.
    """

    views: dict[str, Tensor]
    rows: dict[str, Tensor]
    groups: Tensor
    utterances: Sequence[Utterance]
    ends: Tensor


@dataclass(frozen=True)
class SegmentCutter:
    """How segments are cut and changed.

    Args:
        varied: Channel of the views that vary.
        fixed: Channel of the view that does not.
        strong: Channel of the harsh view.
        segment_seconds: Length of a segment.
        short_seconds: Length in the short view.
        brief_seconds: Length in the brief view.
        long_seconds: Length in the long view.
        pairs_per_utterance: The most anchors in an utterance.
        speed: Segments of the revoiced view are played up to so many times faster or slower.
        sample_rate: In Hz.
        seed: Of the places.
    """

    varied: Channel
    fixed: Channel
    strong: Channel
    segment_seconds: float = 0.5
    short_seconds: float = 0.2
    brief_seconds: float = 0.25
    long_seconds: float = 1.0
    pairs_per_utterance: int = 2
    speed: float = 1.25
    sample_rate: int = 16000
    seed: int = 0

    @property
    def seconds(self) -> dict[str, float]:
        """Length of the segments of each view."""
        own = {SHORT: self.short_seconds, BRIEF: self.brief_seconds, LONG: self.long_seconds}
        return dict.fromkeys(VIEWS, self.segment_seconds) | own

    def __call__(self, recordings: Sequence[Recording]) -> Segments:
        """Cut the recordings, which are as they were spoken."""
        sampler = SegmentSampler(
            self.segment_seconds, parse_gaps(_GAPS), self.sample_rate, self.seed, self.pairs_per_utterance
        )
        parts: dict[str, list[Tensor]] = {view: [] for view in VIEWS}
        rows: dict[str, list[int]] = {view: [] for view in VIEWS}
        groups: list[int] = []
        ends: list[float] = []
        used: list[Utterance] = []
        for recording in tqdm(recordings, desc="segments", unit="utterance", leave=False, disable=None):
            spoken = recording.read()
            starts = sampler(Waveforms(spoken[None], torch.tensor([len(spoken)]))).starts
            if len(starts) == 0:
                continue
            key = recording.utterance.id
            varied, fixed = self.varied.apply(spoken, key), self.fixed.apply(spoken, key)
            for number, row in enumerate(starts.tolist()):
                at = dict(zip((ANCHOR, NEAR, LATER, FAR), row, strict=True))
                for view, segments in self._hear(f"{key}/{number}", varied, fixed, at).items():
                    parts[view].append(segments)
                    rows[view].append(len(groups) + number)
            groups += [len(used)] * len(starts)
            ends += ((starts[:, 0] + sampler.segment).double() / self.sample_rate).tolist()
            used.append(recording.utterance)
        return Segments(
            {view: _as_int16(torch.stack(segments)) for view, segments in parts.items()},
            {view: torch.tensor(numbers) for view, numbers in rows.items()},
            torch.tensor(groups),
            used,
            torch.tensor(ends, dtype=torch.float64),
        )

    def _hear(self, key: str, varied: Tensor, fixed: Tensor, at: Mapping[str, int]) -> dict[str, Tensor]:
        """Segments of one anchor, ``(segments, samples)`` float32 for each view that has room for it."""
        segment, short, brief, long = (
            round(seconds * self.sample_rate)
            for seconds in (self.segment_seconds, self.short_seconds, self.brief_seconds, self.long_seconds)
        )
        border = at[ANCHOR] + segment
        plain = {name: varied[start : start + segment] for name, start in at.items()}
        own = {name: self.varied.apply(segment, f"{key}/{name}/channel") for name, segment in plain.items()}
        heard = {
            VARIED: plain,
            FIXED: {name: fixed[start : start + segment] for name, start in at.items()},
            INDEPENDENT: own,
            REVOICED: {
                name: self.varied.apply(
                    self._revoice(varied, start, name in (ANCHOR, AGAIN), f"{key}/{name}"), f"{key}/{name}/voice"
                )
                for name, start in {**at, AGAIN: at[ANCHOR]}.items()
                if name in VIEWS[REVOICED]
            },
            SHORT: _around_the_border(plain, short),
            HARSH: {name: self.strong.apply(plain[name], f"{key}/{name}/strong channel") for name in VIEWS[HARSH]},
            BRIEF: _around_the_border(own, brief),
        }
        if border >= long and border + long <= len(varied):
            around = {ANCHOR: varied[border - long : border], NEAR: varied[border : border + long]}
            heard[LONG] = {
                name: self.varied.apply(segment, f"{key}/{name}/long channel") for name, segment in around.items()
            }
        return {view: torch.stack([found[name] for name in VIEWS[view]]) for view, found in heard.items()}

    def _revoice(self, waveform: Tensor, start: int, keep_end: bool, key: str) -> Tensor:
        """The segment at another speed; what lies at its end, or else at its start, stays there."""
        segment = round(self.segment_seconds * self.sample_rate)
        draw = torch.Generator().manual_seed(hash_of(key))
        speed = self.speed ** float(2 * torch.rand((), generator=draw) - 1)
        if keep_end:
            end = start + segment
            source = waveform[max(0, end - round(segment * speed)) : end]
        else:
            source = waveform[start : start + round(segment * speed)]
        return F.interpolate(source[None, None], size=segment, mode="linear")[0, 0]


def _around_the_border(segments: Mapping[str, Tensor], samples: int) -> dict[str, Tensor]:
    """The last samples of the anchor, the first ones of the others."""
    return {name: each[-samples:] if name == ANCHOR else each[:samples] for name, each in segments.items()}


def hash_of(key: str) -> int:
    """A number below 2**63 that only ``key`` decides."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1


def _as_int16(waveforms: Tensor) -> Tensor:
    return (waveforms * 32768).round().clamp(-32768, 32767).to(torch.int16)
