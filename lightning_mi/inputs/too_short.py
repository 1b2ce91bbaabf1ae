"""Utterances that are too short for the segments: what was seen, what is needed, and a length that would fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lightning_mi.inputs.segments import Gap, SegmentSampler

_STEPS = 100  # in which shorter segments are tried
_SHORTEST_SECONDS = 0.1  # a shorter segment says little of speech


def why_too_short(sampler: SegmentSampler, lengths: Sequence[int]) -> str | None:
    """Why none of the utterances has room for the segments, and which arguments would fit the longest.

    Args:
        sampler: What cuts the segments.
        lengths: Lengths of utterances in samples (frames).

    Returns:
        A text; ``None`` if one is long enough, or there are none.

    Example:
        >>> from lightning_mi.inputs.segments import parse_gaps
        >>> sampler = SegmentSampler(0.5, parse_gaps("near"), sample_rate=16000, seed=0)
        >>> text = why_too_short(sampler, [12_800, 9000])
        >>> "0.8 s" in text, "`segment_seconds=0.4`" in text
        (True, True)
        >>> why_too_short(sampler, [9000, 16_000])
    """
    longest = max(lengths, default=0)
    if longest == 0 or longest >= sampler.shortest:
        return None
    rate = sampler.sample_rate
    advice = "Validate on longer utterances"
    for change, made in _settings(sampler):
        if made.shortest <= longest:
            advice = f"Pass {change}, which fits the longest"
            break
    gaps = ", ".join(gap.name for gap in sampler.gaps)
    had, needed = longest / rate, sampler.shortest / rate
    return (
        f"No utterance of the sanity check is long enough: the longest has {longest} samples, {had:.4g} s at "
        f"`sample_rate={rate:g}`, expected {sampler.shortest}, {needed:.4g} s, for "
        f"`segment_seconds={sampler.segment_seconds:g}` and `gap_seconds` {gaps}. {advice}; or the data's own "
        "`sample_rate`. If later batches hold longer utterances, give the Trainer `num_sanity_val_steps=-1`."
    )


def _settings(sampler: SegmentSampler) -> list[tuple[str, SegmentSampler]]:
    """Shorter segments, then these with all partners right behind the anchor, the longest first."""
    near = replace(sampler, gaps=(Gap("near", 0.0),))
    found = []
    for change, base in (("", sampler), (' and `gap_seconds="near"`', near)):
        for step in range(_STEPS, 0, -1):
            seconds = round(sampler.segment_seconds * step / _STEPS, 4)
            if seconds >= min(_SHORTEST_SECONDS, sampler.segment_seconds) and seconds * sampler.sample_rate >= 1:
                found.append((f"`segment_seconds={seconds:g}`{change}", replace(base, segment_seconds=seconds)))
    return found
