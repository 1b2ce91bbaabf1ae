"""Bounds on mutual information: of every setting in the grid, near minus far, and with labels."""

from __future__ import annotations

import functools
from dataclasses import replace

import torch
from torch import Tensor

from lightning_mi import MIEstimate, labeled_mi_bound, mi_bound
from lightning_mi.examples.model_selection.corpora.base import LANGUAGE, PHONE, SPEAKER
from lightning_mi.examples.model_selection.probes import phone_at
from lightning_mi.examples.model_selection.scores.conditions import ANCHOR, FAR, SHARED
from lightning_mi.examples.model_selection.scores.embed import BOUNDARY, MEAN, POOLINGS, Embedded
from lightning_mi.examples.model_selection.scores.grid import DEFAULT, Setting, settings
from lightning_mi.examples.model_selection.scores.score import Score, Wanted
from lightning_mi.examples.model_selection.scores.segments import Segments

_BEFORE_THE_END = 0.0125  # middle of the last frame's window, before the end of the anchor, in seconds


def bound_scores(embedded: Embedded, segments: Segments) -> Wanted:
    """The bound in every setting of the grid, and near minus far with both poolings."""
    estimate = functools.cache(functools.partial(estimate_bound, embedded, segments))

    def bound(setting: Setting) -> Score:
        return Score(estimate(setting).bound, estimate(setting).stderr)

    def difference(setting: Setting) -> Score:
        return near_minus_far(estimate(setting), estimate(replace(setting, partner=FAR)))

    wanted: Wanted = {setting.name: functools.partial(bound, setting) for setting in dict.fromkeys(settings())}
    for pooling in POOLINGS:
        setting = replace(DEFAULT, pooling=pooling)
        wanted[setting.near_minus_far] = functools.partial(difference, setting)
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


def near_minus_far(near: MIEstimate, far: MIEstimate) -> Score:
    """Difference of two bounds, pair by pair; it is not a bound."""
    assert near.scores is not None
    assert far.scores is not None
    return Score(*near.scores.gain_over(far.scores))


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
