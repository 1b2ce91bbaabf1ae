"""Conditions: which segments of an anchor are embedded, and what is done to their sound.

| condition | segments | channels | in the callback |
|---|---|---|---|
| ``SHARED`` | anchor, near, 0.1 s later, far | the utterance's | ``channels="shared"`` |
| ``INDEPENDENT`` | the same | one more for each segment | ``channels="independent"`` |
| ``LONG`` | 1 s on either side of the anchor's end, if there is room | one more each | ``segment_seconds=1.0`` |
| ``SPEED`` | the anchor twice, at two random speeds | one more each | none: augmentations for LiDAR |
| ``VIEWS`` | anchor, same moment, 40, 80, 120 ms later, far, if there is room | one more each | ``speed=1.3`` |
| ``WIDE_VIEWS`` | anchor, same moment, 80 ms later, far, if there is room | one more each | ``speed=1.6`` |

The utterance's own channel is drawn once and is in all segments; every other channel is drawn anew.

A new pair is a function of an :class:`Anchor` and one line in :data:`CONDITIONS`.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_mi.examples.model_selection.corpora.channel import Channel
from lightning_mi.inputs.speed import extent, play

ANCHOR, NEAR, LATER, FAR, AGAIN = "anchor", "near", "0.1", "far", "again"
SAME, VIEW_LATER = "same", "later"
MOMENTS = {SAME: 0.0, "later by 0.04": 0.04, VIEW_LATER: 0.08, "later by 0.12": 0.12}
"""Views of about the anchor's moment, and how many seconds later their moments are."""

LONG_SECONDS = 1.0
MAX_SPEED = 1.25
VIEW_SPEED, WIDE_VIEW_SPEED = 1.3, 1.6


@dataclass(frozen=True)
class Anchor:
    """One anchor in its utterance.

    Attributes:
        utterance: ``(T,)`` float32, through the utterance's own channel.
        starts: First sample of the anchor and of its partner at each distance.
        samples: Length of a segment.
        sample_rate: Samples a second.
        channel: Ranges from which channels are drawn.
        key: A name of the anchor, from which channels and speeds are drawn.
    """

    utterance: Tensor
    starts: Mapping[str, int]
    samples: int
    sample_rate: int
    channel: Channel
    key: str

    def cut(self, segment: str) -> Tensor:
        """One segment ``(samples,)`` as it is."""
        start = self.starts[segment]
        return self.utterance[start : start + self.samples]


@dataclass(frozen=True)
class Condition:
    """How the segments of one anchor are cut and changed.

    Attributes:
        segments: Their names.
        cut: Anchor -> waveforms by these names, all of one length; ``None`` if the utterance has no room.
        arguments: Arguments of the callback that differ from its defaults for speech.
    """

    segments: tuple[str, ...]
    cut: Callable[[Anchor], dict[str, Tensor] | None]
    arguments: Mapping[str, str] = field(default_factory=dict)


def shared(anchor: Anchor) -> dict[str, Tensor]:
    """All segments as they are."""
    return {segment: anchor.cut(segment) for segment in anchor.starts}


def independent(anchor: Anchor) -> dict[str, Tensor]:
    """All segments, each through a channel of its own."""
    return {
        segment: anchor.channel.apply(anchor.cut(segment), f"{anchor.key}/{segment}/channel")
        for segment in anchor.starts
    }


def long(anchor: Anchor) -> dict[str, Tensor] | None:
    """A second before and a second after the end of the anchor, each through a channel of its own."""
    length = round(LONG_SECONDS * anchor.sample_rate)
    border = anchor.starts[ANCHOR] + anchor.samples
    if border < length or border + length > len(anchor.utterance):
        return None
    around = {
        ANCHOR: anchor.utterance[border - length : border],
        NEAR: anchor.utterance[border : border + length],
    }
    return {
        segment: anchor.channel.apply(samples, f"{anchor.key}/{segment}/long channel")
        for segment, samples in around.items()
    }


def speed(anchor: Anchor) -> dict[str, Tensor]:
    """The anchor at two speeds, through two channels."""
    return {
        segment: anchor.channel.apply(
            _play_at_random_speed(anchor, f"{anchor.key}/{segment}"), f"{anchor.key}/{segment}/voice"
        )
        for segment in (ANCHOR, AGAIN)
    }


def views(anchor: Anchor, segments: Sequence[str], highest: float) -> dict[str, Tensor] | None:
    """Each of ``segments`` at a random speed of its own about its centre, through a channel of its own."""
    room = extent(anchor.samples, highest)
    margin = (room - anchor.samples) // 2
    places = {ANCHOR: anchor.starts[ANCHOR], FAR: anchor.starts[FAR]}
    places |= {name: places[ANCHOR] + round(later * anchor.sample_rate) for name, later in MOMENTS.items()}
    starts = [places[segment] - margin for segment in segments]
    if min(starts) < 0 or max(starts) + room > len(anchor.utterance):
        return None
    around = torch.stack([anchor.utterance[start : start + room] for start in starts])
    speeds = [_random_speed(f"{anchor.key}/{segment}/view", highest) for segment in segments]
    played = play(around[None], torch.tensor([speeds], dtype=torch.float64), anchor.samples)[0]
    return {
        segment: anchor.channel.apply(samples, f"{anchor.key}/{segment}/view channel")
        for segment, samples in zip(segments, played, strict=True)
    }


def _views(segments: tuple[str, ...], highest: float) -> Condition:
    cut = functools.partial(views, segments=segments, highest=highest)
    return Condition(segments, cut, {"speed": f"{highest:g}"})


SHARED, INDEPENDENT, LONG, SPEED = "shared", "independent", "independent, 1 s", "speed"
VIEWS, WIDE_VIEWS = "views", "wide views"
CONDITIONS: Mapping[str, Condition] = {
    SHARED: Condition((ANCHOR, NEAR, LATER, FAR), shared, {"channels": "shared"}),
    INDEPENDENT: Condition((ANCHOR, NEAR, LATER, FAR), independent),
    LONG: Condition((ANCHOR, NEAR), long, {"segment_seconds": f"{LONG_SECONDS:g}"}),
    SPEED: Condition((ANCHOR, AGAIN), speed),
    VIEWS: _views((ANCHOR, *MOMENTS, FAR), VIEW_SPEED),
    WIDE_VIEWS: _views((ANCHOR, SAME, VIEW_LATER, FAR), WIDE_VIEW_SPEED),
}


def _play_at_random_speed(anchor: Anchor, key: str) -> Tensor:
    """The anchor up to :data:`MAX_SPEED` times faster or slower; its last sample stays the last one."""
    factor = _random_speed(key, MAX_SPEED)
    end = anchor.starts[ANCHOR] + anchor.samples
    source = anchor.utterance[max(0, end - round(anchor.samples * factor)) : end]
    return F.interpolate(source[None, None], size=anchor.samples, mode="linear")[0, 0]


def _random_speed(key: str, highest: float) -> float:
    """Log-uniform between ``1 / highest`` and ``highest``."""
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1
    draw = torch.rand((), generator=torch.Generator().manual_seed(seed))
    return highest ** float(2 * draw - 1)
