"""What the scores are taken of: sections of the scoring corpus, each cut once and heard in several ways."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm  # type: ignore[import-untyped,unused-ignore]

from lightning_mi.batches import Waveforms
from lightning_mi.segments import SectionSampler, parse_gaps

from ..data.utterances import Recording, Utterance
from .channel import Channel

ANCHOR, NEAR, LATER, FAR, AGAIN = "anchor", "near", "0.1", "far", "again"
_GAPS: tuple[float | str, ...] = ("near", 0.1, "far")

VARIED, FIXED, INDEPENDENT, REVOICED, SHORT = "varied", "fixed", "independent", "revoiced", "short"
VIEWS: Mapping[str, tuple[str, ...]] = {
    VARIED: (ANCHOR, NEAR, LATER, FAR),
    FIXED: (ANCHOR, NEAR, FAR),
    INDEPENDENT: (ANCHOR, NEAR, FAR),
    REVOICED: (ANCHOR, NEAR, FAR, AGAIN),
    SHORT: (ANCHOR, NEAR, FAR),
}
"""The sections of each view, in the order of their numbers.

- varied: as the scoring corpus sounds, an own channel for each utterance
- fixed: the same sections where all utterances have one channel
- independent: as varied, and each section once more through a channel of its own, so that two sections of an
  utterance do not share one
- revoiced: as independent, and each section at a speed of its own, which moves pitch and formants; "again" is the
  anchor at another speed, through another channel
- short: the samples of varied that lie within `short_seconds` of the border between anchor and near
"""


@dataclass(frozen=True)
class Sections:
    """Sections of N anchors and their partners.

    Attributes:
        views: For each of :data:`VIEWS` ``(N, sections, samples)`` int16.
        groups: ``(N,)`` int64, the utterance.
        utterances: Of the groups, by number.
        ends: ``(N,)`` float64, end of the anchor in its utterance, in seconds.
    """

    views: dict[str, Tensor]
    groups: Tensor
    utterances: Sequence[Utterance]
    ends: Tensor


@dataclass(frozen=True)
class SectionCutter:
    """How sections are cut and changed.

    Args:
        varied: Channel of the views that vary.
        fixed: Channel of the view that does not.
        segment_seconds: Length of a section.
        short_seconds: Length in the short view.
        pairs_per_utterance: The most anchors in an utterance.
        speed: Sections of the revoiced view are played up to so many times faster or slower.
        sample_rate: In Hz.
        seed: Of the places.
    """

    varied: Channel
    fixed: Channel
    segment_seconds: float = 0.5
    short_seconds: float = 0.2
    pairs_per_utterance: int = 2
    speed: float = 1.25
    sample_rate: int = 16000
    seed: int = 0

    def __call__(self, recordings: Sequence[Recording]) -> Sections:
        """Cut the recordings, which are as they were spoken."""
        sampler = SectionSampler(
            self.segment_seconds, parse_gaps(_GAPS), self.sample_rate, self.seed, self.pairs_per_utterance
        )
        parts: dict[str, list[Tensor]] = {view: [] for view in VIEWS}
        groups: list[int] = []
        ends: list[float] = []
        used: list[Utterance] = []
        for recording in tqdm(recordings, desc="sections", unit="utterance", leave=False, disable=None):
            spoken = recording.read()
            starts = sampler(Waveforms(spoken[None], torch.tensor([len(spoken)]))).starts
            if len(starts) == 0:
                continue
            for view, sections in self._hear(recording.utterance.id, spoken, starts.tolist()).items():
                parts[view].append(sections)
            groups += [len(used)] * len(starts)
            ends += ((starts[:, 0] + sampler.segment).double() / self.sample_rate).tolist()
            used.append(recording.utterance)
        views = {view: torch.cat(sections) for view, sections in parts.items()}
        return Sections(views, torch.tensor(groups), used, torch.tensor(ends, dtype=torch.float64))

    def _hear(self, key: str, spoken: Tensor, starts: list[list[int]]) -> dict[str, Tensor]:
        """Sections of one utterance, ``(anchors, sections, samples)`` int16 for each view."""
        segment = round(self.segment_seconds * self.sample_rate)
        short = round(self.short_seconds * self.sample_rate)
        varied, fixed = self.varied.apply(spoken, key), self.fixed.apply(spoken, key)
        heard: dict[str, list[Tensor]] = {view: [] for view in VIEWS}
        for number, row in enumerate(starts):
            at = dict(zip((ANCHOR, NEAR, LATER, FAR), row, strict=True))
            at[AGAIN] = at[ANCHOR]
            plain = {name: varied[start : start + segment] for name, start in at.items()}
            heard[VARIED].append(torch.stack([plain[name] for name in VIEWS[VARIED]]))
            heard[FIXED].append(torch.stack([fixed[at[name] : at[name] + segment] for name in VIEWS[FIXED]]))
            heard[SHORT].append(
                torch.stack([plain[ANCHOR][-short:], *(plain[name][:short] for name in VIEWS[SHORT][1:])])
            )
            heard[INDEPENDENT].append(
                torch.stack(
                    [
                        self.varied.apply(plain[name], f"{key}/{number}/{name}/channel")
                        for name in VIEWS[INDEPENDENT]
                    ]
                )
            )
            heard[REVOICED].append(
                torch.stack(
                    [
                        self.varied.apply(
                            self._revoice(varied, at[name], name in (ANCHOR, AGAIN), f"{key}/{number}/{name}"),
                            f"{key}/{number}/{name}/voice",
                        )
                        for name in VIEWS[REVOICED]
                    ]
                )
            )
        return {view: _as_int16(torch.stack(sections)) for view, sections in heard.items()}

    def _revoice(self, waveform: Tensor, start: int, keep_end: bool, key: str) -> Tensor:
        """The section at another speed; what lies at its end, or else at its start, stays there."""
        segment = round(self.segment_seconds * self.sample_rate)
        draw = torch.Generator().manual_seed(hash_of(key))
        speed = self.speed ** float(2 * torch.rand((), generator=draw) - 1)
        if keep_end:
            end = start + segment
            source = waveform[max(0, end - round(segment * speed)) : end]
        else:
            source = waveform[start : start + round(segment * speed)]
        return F.interpolate(source[None, None], size=segment, mode="linear")[0, 0]


def hash_of(key: str) -> int:
    """A number below 2**63 that only ``key`` decides."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1


def _as_int16(waveforms: Tensor) -> Tensor:
    return (waveforms * 32768).round().clamp(-32768, 32767).to(torch.int16)
