"""Every score of one checkpoint, by name: the bound in the settings worth trying, and its rivals."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Container, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lightning_mi import MIEstimate, labeled_mi_bound, mi_bound

from .encode import BOTH, CONTEXT, EDGE, FRAME, MEAN, Embedded
from .local import Score, conditional_bound, conditional_difference, residual_bound
from .rivals import QUALITIES, alpha_req, cluster_quality, lidar, rankme
from .segments import (
    AGAIN,
    ANCHOR,
    FAR,
    INDEPENDENT,
    LATER,
    LONG,
    NEAR,
    REVOICED,
    VARIED,
    VIEWS,
    Segments,
)
from .truth import LANGUAGE, PHONE, VOICE, phone_at

CLUSTERS = 32
QUANTIZERS = ("kmeans", "whitened", "canonical")
MORE = (("whitened", 128), ("canonical", 16), ("canonical", 64), ("canonical", 128))
PROBES = ("quadratic", "fourier")
_BEFORE_THE_END = 0.0125  # middle of a frame's window, before the end of the anchor, in seconds
_LOCAL: dict[str, Callable[..., Score]] = {
    "conditional difference": conditional_difference,
    "bound given the far cluster": conditional_bound,
    "bound on the residual": residual_bound,
}


@dataclass(frozen=True)
class Setting:
    """Of one bound: which segments, how pooled, and how clustered.

    Attributes:
        view: One of :data:`VIEWS`.
        partner: The segment that stands beside the anchor.
        pooling: How the frames of a segment become one vector.
        quantizer: As that of :func:`lightning_mi.mi_bound`.
        num_clusters: K.
        probe: As that of :func:`lightning_mi.mi_bound`.
        among: Another view whose anchors alone are taken; empty for all that the view has.
    """

    view: str
    partner: str
    pooling: str
    quantizer: str
    num_clusters: int = CLUSTERS
    probe: str = "linear"
    among: str = ""

    @property
    def name(self) -> str:
        """Of the setting; a linear probe is not said."""
        probe = "" if self.probe == "linear" else f"/{self.probe}"
        among = f"/among {self.among}" if self.among else ""
        return f"{self.view}/{self.partner}/{self.pooling}/{self.quantizer}{self.num_clusters}{probe}{among}"


def settings() -> Iterator[Setting]:
    """All that are tried: every quantiser in every view, pooling and partner; where each segment has a channel
    of its own, more poolings, other numbers of clusters and other probes; and, beside the long segments, the usual
    ones of the anchors that have room for those."""
    for view, names in VIEWS.items():
        for partner in (*names[1:], AGAIN) if view == INDEPENDENT else names[1:]:
            for pooling in _poolings(view, partner):
                for quantizer in QUANTIZERS:
                    yield Setting(view, partner, pooling, quantizer)
    for partner in (NEAR, FAR):
        yield Setting(VARIED, partner, MEAN, "kmeans", 128)
        for pooling in (MEAN, FRAME):
            for quantizer, num_clusters in MORE:
                yield Setting(INDEPENDENT, partner, pooling, quantizer, num_clusters)
            for probe in PROBES:
                yield Setting(INDEPENDENT, partner, pooling, "canonical", probe=probe)
    for pooling in (MEAN, FRAME):
        for quantizer in QUANTIZERS:
            yield Setting(INDEPENDENT, NEAR, pooling, quantizer, among=LONG)


def _poolings(view: str, partner: str) -> tuple[str, ...]:
    if view == INDEPENDENT and partner in (NEAR, FAR):
        return (MEAN, FRAME, EDGE, BOTH, CONTEXT)
    return (MEAN, FRAME, EDGE) if view in (VARIED, INDEPENDENT) else (MEAN, FRAME)


def partner_of(embedded: Embedded, setting: Setting) -> Tensor:
    """Embeddings ``(N, D)`` of what stands beside the anchor. In the view "independent", "again" is the anchor as
    it is in "varied": two channels of one segment."""
    if (setting.view, setting.partner) == (INDEPENDENT, AGAIN):
        return embedded.of(VARIED, ANCHOR, setting.pooling)
    return embedded.of(setting.view, setting.partner, setting.pooling)


def bound_of(embedded: Embedded, segments: Segments, setting: Setting) -> MIEstimate:
    """The bound in one setting."""
    anchor, partner = embedded.of(setting.view, ANCHOR, setting.pooling), partner_of(embedded, setting)
    rows = segments.rows[setting.view]
    if setting.among:
        kept = torch.isin(rows, segments.rows[setting.among])
        anchor, partner, rows = anchor[kept], partner[kept], rows[kept]
    return mi_bound(
        anchor,
        partner,
        setting.num_clusters,
        segments.groups[rows],
        quantizer=setting.quantizer,
        probe=setting.probe,
    )


_Wanted = dict[str, Callable[[], Score]]  # how a score is found, by its name


def score_all(embedded: Embedded, segments: Segments, known: Container[str] = ()) -> dict[str, Score]:
    """Scores without labels of one checkpoint.

    Args:
        embedded: Its embeddings of ``segments``, finite.
        segments: The same.
        known: Names that need not be scored.

    Returns:
        By name. Names begin with "bound" where the value is a lower bound on a mutual information, held out. The
        standard error is NaN where the score has none.
    """
    wanted = _wanted(embedded, segments)
    return {name: score() for name, score in wanted.items() if name not in known}


def score_names() -> set[str]:
    """Names of all that :func:`score_all` finds."""
    return set(_wanted(None, None))


def _wanted(embedded: Any, segments: Any) -> _Wanted:
    """Nothing is looked at until a score is asked for."""
    estimate = functools.cache(functools.partial(bound_of, embedded, segments))
    return _bounds(estimate) | _local(embedded, segments) | _rivals(embedded)


def _bounds(estimate: Callable[[Setting], MIEstimate]) -> _Wanted:
    """Every bound, as a share of H(c), which takes away what a larger entropy alone brings and is not a bound, and
    where there is a far segment near minus far: differences of two bounds, which are not bounds."""

    def bound(setting: Setting) -> Score:
        return Score(estimate(setting).bound, estimate(setting).stderr)

    def share(setting: Setting) -> Score:
        entropy = max(estimate(setting).entropy, 1e-9)
        return Score(estimate(setting).bound / entropy, estimate(setting).stderr / entropy)

    def less_far(setting: Setting, far: Setting) -> Score:
        return difference(estimate(setting), estimate(far))

    def less_far_share(setting: Setting, far: Setting) -> Score:
        return Score(share(setting).value - share(far).value, math.nan)

    every = dict.fromkeys(settings())
    found: _Wanted = {}
    for setting in every:
        found[f"bound/{setting.name}"] = functools.partial(bound, setting)
        found[f"share/{setting.name}"] = functools.partial(share, setting)
    for setting in every:
        far = replace(setting, partner=FAR)
        if setting.partner != FAR and far in every:
            found[f"difference/{setting.name}"] = functools.partial(less_far, setting, far)
            found[f"share difference/{setting.name}"] = functools.partial(less_far_share, setting, far)
    return found


def difference(near: MIEstimate, far: MIEstimate) -> Score:
    """Near minus far, pair by pair."""
    assert near.scores is not None
    assert far.scores is not None
    return Score(*near.scores.gain_over(far.scores))


def _local(embedded: Embedded, segments: Segments) -> _Wanted:
    def local(kind: str, view: str, partner: str, pooling: str, quantizer: str) -> Score:
        z_a, z_b = embedded.of(view, ANCHOR, pooling), embedded.of(view, partner, pooling)
        far = embedded.of(view, FAR, MEAN)
        return _LOCAL[kind](z_a, z_b, far, CLUSTERS, segments.groups, quantizer=quantizer)

    found: _Wanted = {}
    pairs = [(view, NEAR) for view in VIEWS if FAR in VIEWS[view]] + [(VARIED, LATER), (REVOICED, AGAIN)]
    for view, partner in pairs:
        for pooling in (FRAME, EDGE) if view == VARIED or partner == AGAIN else (FRAME,):
            for quantizer in ("whitened", "canonical") if view == INDEPENDENT else ("whitened",):
                for kind in _LOCAL:
                    name = f"{kind}/{view}/{partner}/{pooling}/{quantizer}{CLUSTERS}"
                    found[name] = functools.partial(local, kind, view, partner, pooling, quantizer)
    return found


def _rivals(embedded: Embedded) -> _Wanted:
    @functools.cache
    def quality(num_clusters: int) -> dict[str, float]:
        return cluster_quality(embedded.frames.flatten(0, 1), num_clusters)

    def augmented() -> Tensor:
        views = ((VARIED, ANCHOR), (INDEPENDENT, ANCHOR), (REVOICED, ANCHOR), (REVOICED, AGAIN))
        return torch.stack([embedded.of(view, segment, MEAN) for view, segment in views], dim=1)

    values: dict[str, Callable[[], float]] = {
        "RankMe/frames": lambda: rankme(embedded.frames.flatten(0, 1)),
        "RankMe/pooled": lambda: rankme(embedded.of(VARIED, ANCHOR, MEAN)),
        "alpha-ReQ/frames": lambda: -abs(alpha_req(embedded.frames.flatten(0, 1)) - 1),
        "alpha-ReQ/pooled": lambda: -abs(alpha_req(embedded.of(VARIED, ANCHOR, MEAN)) - 1),
        "LiDAR/segments": lambda: lidar(embedded.pooled[VARIED, MEAN]),
        "LiDAR/augmented": lambda: lidar(augmented()),
    }
    for num_clusters in (32, 256):
        for name in QUALITIES:
            values[f"clusters/{name}{num_clusters}"] = functools.partial(
                lambda name, num_clusters: quality(num_clusters)[name], name, num_clusters
            )
    return {
        name: functools.partial(lambda value: Score(value(), math.nan), value) for name, value in values.items()
    }


def labelled(embedded: Embedded, segments: Segments) -> dict[str, Score]:
    """The labelled bounds on the same segments: what the scores without labels may hope for."""
    owners = [segments.utterances[group] for group in segments.groups.tolist()]
    phones = [
        phone_at(owner.phones, end - _BEFORE_THE_END)
        for owner, end in zip(owners, segments.ends.tolist(), strict=True)
    ]
    wanted: list[tuple[str, str, list[str | None]]] = [
        (PHONE, FRAME, phones),
        (VOICE, MEAN, [owner.voice for owner in owners]),
        (LANGUAGE, MEAN, [owner.language for owner in owners]),
    ]
    found = {}
    for name, pooling, labels in wanted:
        names = sorted({label for label in labels if label is not None})
        targets = torch.tensor([-1 if label is None else names.index(label) for label in labels])
        estimate = labeled_mi_bound(embedded.of(VARIED, ANCHOR, pooling), targets, segments.groups)
        found[f"labelled bound/{name}"] = Score(estimate.bound, estimate.stderr)
    return found


def as_json(scores: dict[str, Score]) -> dict[str, dict[str, float]]:
    """Plain values."""
    return {name: asdict(score) for name, score in scores.items()}
