"""Every score of one checkpoint, by name: the bound in the settings worth trying, and its rivals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from lightning_mi import MIEstimate, labeled_mi_bound, mi_bound

from .encode import BOTH, CONTEXT, EDGE, FRAME, MEAN, Embedded
from .local import Score, conditional_bound, conditional_difference, residual_bound
from .rivals import alpha_req, cluster_quality, lidar, rankme
from .sections import AGAIN, ANCHOR, FAR, INDEPENDENT, LATER, NEAR, REVOICED, VARIED, VIEWS, Sections
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
    """Of one bound: which sections, how pooled, and how clustered.

    Attributes:
        view: One of :data:`VIEWS`.
        partner: The section that stands beside the anchor.
        pooling: How the frames of a section become one vector.
        quantizer: As that of :func:`lightning_mi.mi_bound`.
        num_clusters: K.
        probe: As that of :func:`lightning_mi.mi_bound`.
    """

    view: str
    partner: str
    pooling: str
    quantizer: str
    num_clusters: int = CLUSTERS
    probe: str = "linear"

    @property
    def name(self) -> str:
        """Of the setting; a linear probe is not said."""
        probe = "" if self.probe == "linear" else f"/{self.probe}"
        return f"{self.view}/{self.partner}/{self.pooling}/{self.quantizer}{self.num_clusters}{probe}"


def settings() -> Iterator[Setting]:
    """All that are tried: every quantiser in every view, pooling and partner; where each section has a channel
    of its own, more poolings, other numbers of clusters and other probes."""
    for view, names in VIEWS.items():
        for partner in (*names[1:], AGAIN) if view == INDEPENDENT else names[1:]:
            for pooling in _poolings(view, partner):
                for quantizer in QUANTIZERS:
                    yield Setting(view, partner, pooling, quantizer)
    for partner in (NEAR, FAR):
        yield Setting(VARIED, partner, MEAN, "kmeans", 128)  # as the callback does
        for pooling in (MEAN, FRAME):
            for quantizer, num_clusters in MORE:
                yield Setting(INDEPENDENT, partner, pooling, quantizer, num_clusters)
            for probe in PROBES:
                yield Setting(INDEPENDENT, partner, pooling, "canonical", probe=probe)


def _poolings(view: str, partner: str) -> tuple[str, ...]:
    if view == INDEPENDENT and partner != AGAIN:
        return (MEAN, FRAME, EDGE, BOTH, CONTEXT)
    return (MEAN, FRAME, EDGE) if view in (VARIED, INDEPENDENT) else (MEAN, FRAME)


def partner_of(embedded: Embedded, setting: Setting) -> Tensor:
    """Embeddings ``(N, D)`` of what stands beside the anchor. In the view "independent", "again" is the anchor as
    it is in "varied": two channels of one section."""
    if (setting.view, setting.partner) == (INDEPENDENT, AGAIN):
        return embedded.of(VARIED, ANCHOR, setting.pooling)
    return embedded.of(setting.view, setting.partner, setting.pooling)


def score_all(embedded: Embedded, groups: Tensor) -> dict[str, Score]:
    """Scores without labels of one checkpoint.

    Args:
        embedded: Its embeddings, finite.
        groups: ``(N,)`` int64, the utterances.

    Returns:
        By name. Names begin with "bound" where the value is a lower bound on a mutual information, held out. The
        standard error is NaN where the score has none.
    """
    scores: dict[str, Score] = {}
    estimates = {}
    for setting in settings():
        anchor = embedded.of(setting.view, ANCHOR, setting.pooling)
        partner = partner_of(embedded, setting)
        estimates[setting] = mi_bound(
            anchor, partner, setting.num_clusters, groups, quantizer=setting.quantizer, probe=setting.probe
        )
        scores[f"bound/{setting.name}"] = Score(estimates[setting].bound, estimates[setting].stderr)
        scores[f"share/{setting.name}"] = _share(estimates[setting])
    scores |= _differences(estimates)
    scores |= _local(embedded, groups)
    scores |= _rivals(embedded)
    return scores


def _share(estimate: MIEstimate) -> Score:
    """The bound as a share of H(c): it takes away what a larger entropy alone brings. Not a bound."""
    entropy = max(estimate.entropy, 1e-9)
    return Score(estimate.bound / entropy, estimate.stderr / entropy)


def _differences(estimates: dict[Setting, MIEstimate]) -> dict[str, Score]:
    """Near minus far: differences of two bounds, which are not bounds."""
    found = {}
    for setting, near in estimates.items():
        if setting.partner == FAR:
            continue
        far = estimates[replace(setting, partner=FAR)]
        assert near.scores is not None
        assert far.scores is not None
        found[f"difference/{setting.name}"] = Score(*near.scores.gain_over(far.scores))
        found[f"share difference/{setting.name}"] = Score(_share(near).value - _share(far).value, math.nan)
    return found


def _local(embedded: Embedded, groups: Tensor) -> dict[str, Score]:
    found = {}
    pairs = [(view, NEAR) for view in VIEWS] + [(VARIED, LATER), (REVOICED, AGAIN)]
    for view, partner in pairs:
        for pooling in (FRAME, EDGE) if view == VARIED or partner == AGAIN else (FRAME,):
            z_a, z_b = embedded.of(view, ANCHOR, pooling), embedded.of(view, partner, pooling)
            far = embedded.of(view, FAR, MEAN)
            for quantizer in ("whitened", "canonical") if view == INDEPENDENT else ("whitened",):
                name = f"{view}/{partner}/{pooling}/{quantizer}{CLUSTERS}"
                for kind, score in _LOCAL.items():
                    found[f"{kind}/{name}"] = score(z_a, z_b, far, CLUSTERS, groups, quantizer=quantizer)
    return found


def _rivals(embedded: Embedded) -> dict[str, Score]:
    frames = embedded.frames.flatten(0, 1)
    pooled = embedded.of(VARIED, ANCHOR, MEAN)
    of_utterance = embedded.pooled[VARIED, MEAN]
    augmented = torch.stack(
        [
            embedded.of(VARIED, ANCHOR, MEAN),
            embedded.of(INDEPENDENT, ANCHOR, MEAN),
            embedded.of(REVOICED, ANCHOR, MEAN),
            embedded.of(REVOICED, AGAIN, MEAN),
        ],
        dim=1,
    )
    values = {
        "RankMe/frames": rankme(frames),
        "RankMe/pooled": rankme(pooled),
        "alpha-ReQ/frames": -abs(alpha_req(frames) - 1),
        "alpha-ReQ/pooled": -abs(alpha_req(pooled) - 1),
        "LiDAR/sections": lidar(of_utterance),
        "LiDAR/augmented": lidar(augmented),
    }
    for num_clusters in (32, 256):
        for name, value in cluster_quality(frames, num_clusters).items():
            values[f"clusters/{name}{num_clusters}"] = value
    return {name: Score(value, math.nan) for name, value in values.items()}


def labelled(embedded: Embedded, sections: Sections) -> dict[str, Score]:
    """The labelled bounds on the same sections: what the scores without labels may hope for."""
    owners = [sections.utterances[group] for group in sections.groups.tolist()]
    phones = [
        phone_at(owner.phones, end - _BEFORE_THE_END)
        for owner, end in zip(owners, sections.ends.tolist(), strict=True)
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
        estimate = labeled_mi_bound(embedded.of(VARIED, ANCHOR, pooling), targets, sections.groups)
        found[f"labelled bound/{name}"] = Score(estimate.bound, estimate.stderr)
    return found


def as_json(scores: dict[str, Score]) -> dict[str, dict[str, float]]:
    """Plain values."""
    return {name: asdict(score) for name, score in scores.items()}
