"""Segments of the scoring corpus, under every condition; the same for all models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm.auto import tqdm  # type: ignore[import-untyped,unused-ignore]

from lightning_mi.examples.data.utterances import Recording, Utterance
from lightning_mi.examples.model_selection.corpora.channel import Channel
from lightning_mi.examples.model_selection.scores.conditions import (
    ANCHOR,
    CONDITIONS,
    FAR,
    LATER,
    NEAR,
    Anchor,
)
from lightning_mi.inputs.batches import Waveforms
from lightning_mi.inputs.segments import SegmentSampler, parse_gaps

_GAPS: tuple[float | str, ...] = ("near", 0.1, "far")


@dataclass(frozen=True)
class Segments:
    """Segments of N anchors and their partners.

    Attributes:
        waveforms: For each condition ``(n, segments, samples)`` int16, of the anchors that have room for it.
        rows: For each condition ``(n,)`` int64, which anchors these are.
        groups: ``(N,)`` int64, the utterance of each anchor.
        utterances: The utterances, by the numbers in ``groups``.
        ends: ``(N,)`` float64, end of the anchor in its utterance, in seconds.
    """

    waveforms: dict[str, Tensor]
    rows: dict[str, Tensor]
    groups: Tensor
    utterances: Sequence[Utterance]
    ends: Tensor


@dataclass(frozen=True)
class SegmentCutter:
    """Cuts segments by the callback's own :class:`~lightning_mi.inputs.segments.SegmentSampler`.

    Args:
        channel: Channel of every utterance and, under most conditions, of every segment.
        segment_seconds: Length of a segment.
        pairs_per_utterance: The most anchors in an utterance.
        sample_rate: Samples a second.
        seed: Seed of the places.
    """

    channel: Channel
    segment_seconds: float = 0.5
    pairs_per_utterance: int = 2
    sample_rate: int = 16000
    seed: int = 0

    def __call__(self, recordings: Sequence[Recording]) -> Segments:
        """Cut the recordings, which have not passed a channel."""
        sampler = SegmentSampler(
            self.segment_seconds, parse_gaps(_GAPS), self.sample_rate, self.seed, self.pairs_per_utterance
        )
        parts: dict[str, list[Tensor]] = {name: [] for name in CONDITIONS}
        rows: dict[str, list[int]] = {name: [] for name in CONDITIONS}
        groups: list[int] = []
        ends: list[float] = []
        used: list[Utterance] = []
        for recording in tqdm(recordings, desc="segments", unit="utterance", leave=False, disable=None):
            original = recording.read()
            starts = sampler(Waveforms(original[None], torch.tensor([len(original)]))).starts
            if len(starts) == 0:
                continue
            key = recording.utterance.id
            utterance = self.channel.apply(original, key)
            for number, row in enumerate(starts.tolist()):
                anchor = Anchor(
                    utterance,
                    dict(zip((ANCHOR, NEAR, LATER, FAR), row, strict=True)),
                    sampler.segment_length,
                    self.sample_rate,
                    self.channel,
                    f"{key}/{number}",
                )
                for name, condition in CONDITIONS.items():
                    if (cut := condition.cut(anchor)) is not None:
                        parts[name].append(torch.stack([cut[segment] for segment in condition.segments]))
                        rows[name].append(len(groups) + number)
            groups += [len(used)] * len(starts)
            ends += ((starts[:, 0] + sampler.segment_length).double() / self.sample_rate).tolist()
            used.append(recording.utterance)
        return Segments(
            {name: _as_int16(torch.stack(cuts)) for name, cuts in parts.items()},
            {name: torch.tensor(numbers) for name, numbers in rows.items()},
            torch.tensor(groups),
            used,
            torch.tensor(ends, dtype=torch.float64),
        )


def _as_int16(waveforms: Tensor) -> Tensor:
    return (waveforms * 32768).round().clamp(-32768, 32767).to(torch.int16)
