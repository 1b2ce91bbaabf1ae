"""Conditions: which segments of an utterance are embedded, and how frames become one vector.

Segments, channels and speeds are the callback's own
(:class:`~lightning_mi.inputs.segments.SegmentSampler`), and so is the pooling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_mi.embedding.pooling import Pooling
from lightning_mi.examples.public_encoders.registry import JUDGE, SEARCH
from lightning_mi.inputs.batches import Waveforms
from lightning_mi.inputs.channels import Channels
from lightning_mi.inputs.segments import Gap, SegmentSampler, parse_gaps

_SAMPLE_RATE = 16000
PAIRS_PER_UTTERANCE = 2


@dataclass(frozen=True)
class Condition:
    """One way to cut segments.

    Attributes:
        name: Its name.
        seconds: Length of a segment.
        gaps: Where the partners lie.
        poolings: How frames become one vector.
        speed: Highest speed of the segments.
        channels: Whether each has a channel of its own.
        halves: Where it is embedded.
    """

    name: str
    seconds: float
    gaps: tuple[Gap, ...]
    poolings: tuple[Pooling, ...] = ("center",)
    speed: float = 1.3
    channels: Channels = "independent"
    halves: tuple[str, ...] = (SEARCH, JUDGE)

    def segments(self, utterances: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Segments ``(n, 1 + G, S)`` float32 and the number ``(n,)`` int64 of each one's utterance."""
        sampler = SegmentSampler(
            self.seconds,
            self.gaps,
            _SAMPLE_RATE,
            seed=0,
            pairs_per_utterance=PAIRS_PER_UTTERANCE,
            channels=self.channels,
            speed=self.speed,
        )
        found, groups = [], []
        for number, utterance in enumerate(utterances):
            cut = sampler(Waveforms(utterance[None], torch.tensor([len(utterance)])))
            found.append(cut.samples)
            groups.append(torch.full((len(cut.samples),), number))
        return torch.cat(found), torch.cat(groups)


SAME, FAR = parse_gaps(["same", "far"])
LATER = tuple(Gap(f"later {ms}", ms / 1000, is_view=True) for ms in (40, 80, 120, 160, 240, 320, 480))
_VIEWS = (SAME, LATER[1], FAR)
_OFFSETS = (SAME, LATER[0], *LATER[2:4], FAR)
_LATE = (SAME, *LATER[4:], FAR)

CONDITIONS = (
    Condition("views", 1.0, _VIEWS, ("center", "mean"), halves=(SEARCH,)),
    Condition("views, chosen", 1.0, (SAME, LATER[0], FAR), halves=(JUDGE,)),
    Condition("views, other offsets", 1.0, _OFFSETS, halves=(SEARCH,)),
    Condition("views, late offsets", 1.0, _LATE, halves=(SEARCH,)),
    Condition("views, 0.5 s", 0.5, _VIEWS),
    Condition("views, speed 1", 1.0, (SAME, FAR), speed=1.0, halves=(SEARCH,)),
    Condition("views, speed 1.6", 1.0, (SAME, FAR), speed=1.6, halves=(SEARCH,)),
    Condition("adjacent", 0.5, parse_gaps(["near", "far"]), ("boundary",), speed=1.0),
    Condition("voice", 1.0, parse_gaps("near"), ("mean",), speed=1.0),
    Condition("paper", 0.5, parse_gaps("near"), ("mean",), speed=1.0, channels="shared"),
)
"""All of them."""
