"""Bounds on mutual information: of every setting in the grid, less that of distant segments, and with labels."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lightning_mi import MIEstimate, labeled_mi_bound, mi_bound
from lightning_mi.examples.model_selection.corpora.base import LANGUAGE, PHONE, SPEAKER
from lightning_mi.examples.model_selection.probes import phone_at
from lightning_mi.examples.model_selection.scores.conditions import ANCHOR, FAR, SHARED, VIEW_LATER
from lightning_mi.examples.model_selection.scores.embed import BOUNDARY, MEAN, Embedded
from lightning_mi.examples.model_selection.scores.grid import VIEW_CHANGES, Setting, minus_far, settings
from lightning_mi.examples.model_selection.scores.score import Score, Wanted
from lightning_mi.examples.model_selection.scores.segments import Segments

_BEFORE_THE_END = 0.0125  # middle of the last frame's window, before the end of the anchor, in seconds


def bound_scores(embedded: Embedded, segments: Segments) -> Wanted:
    """The bound in every setting of the grid, and differences from that of distant segments."""
    estimate = functools.cache(functools.partial(estimate_bound, embedded, segments))

    def bound(setting: Setting) -> Score:
        return Score(estimate(setting).bound, estimate(setting).stderr)

    def difference(*nearer: Setting) -> Score:
        return above_far([estimate(setting) for setting in nearer], estimate(replace(nearer[0], partner=FAR)))

    wanted: Wanted = {setting.name: functools.partial(bound, setting) for setting in dict.fromkeys(settings())}
    for setting in minus_far():
        wanted[setting.minus_far] = functools.partial(difference, setting)
    for setting in VIEW_CHANGES.values():
        wanted[setting.with_later] = functools.partial(difference, setting, replace(setting, partner=VIEW_LATER))
    return wanted


def estimate_bound(
    embedded: Embedded, segments: Segments, setting: Setting, anchors: Tensor | None = None
) -> MIEstimate:
    """The bound in one setting, of all anchors or of those with the numbers ``anchors`` ``(n,)`` int64."""
    rows = segments.rows[setting.condition]
    anchor = embedded.of(setting.condition, ANCHOR, setting.pooling)
    partner = embedded.of(setting.condition, setting.partner, setting.pooling)
    for some in (segments.rows.get(setting.among), anchors):
        if some is not None:
            kept = torch.isin(rows, some)
            anchor, partner, rows = anchor[kept], partner[kept], rows[kept]
    return mi_bound(
        anchor,
        partner,
        setting.num_clusters,
        segments.groups[rows],
        quantizer=setting.quantizer,
        probe=setting.probe,
    )


def above_far(nearer: Sequence[MIEstimate], far: MIEstimate) -> Score:
    """Sum of the differences of some bounds from that of distant segments, pair by pair; it is not a bound.

    Every bound is floored at 0 before, as in :func:`lightning_mi.validation.estimates.difference`.
    """
    assert far.scores is not None
    distant = far.scores.floored()
    totals = torch.zeros_like(distant.totals)
    for each in nearer:
        assert each.scores is not None
        assert torch.equal(each.scores.groups, distant.groups)
        totals = totals + each.scores.floored().totals
    return Score(*replace(distant, totals=totals).gain_over(replace(distant, totals=len(nearer) * distant.totals)))


def labelled_bounds(embedded: Embedded, segments: Segments) -> dict[str, Score]:
    """The labelled bound for each task on the same segments: what scores without labels can hope for."""
    owners = [segments.utterances[group] for group in segments.groups.tolist()]
    phones = [
        phone_at(owner.phones, end - _BEFORE_THE_END)
        for owner, end in zip(owners, segments.ends.tolist(), strict=True)
    ]
    wanted: list[tuple[str, str, list[str | None]]] = [
        (PHONE, BOUNDARY, phones),
        (SPEAKER, MEAN, [owner.voice for owner in owners]),
        (LANGUAGE, MEAN, [owner.language for owner in owners]),
    ]
    found = {}
    for task, pooling, labels in wanted:
        estimate = labeled_mi_bound(embedded.of(SHARED, ANCHOR, pooling), _numbers(labels), segments.groups)
        found[task] = Score(estimate.bound, estimate.stderr)
    return found


def _numbers(labels: list[str | None]) -> Tensor:
    names = sorted({label for label in labels if label is not None})
    return torch.tensor([-1 if label is None else names.index(label) for label in labels])
