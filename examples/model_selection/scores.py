"""Every score of one checkpoint, by name: the bound in the settings worth trying, and its rivals."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from lightning_mi import MIEstimate, labeled_mi_bound, mi_bound

from .encode import EDGE, FRAME, MEAN, POOLINGS, Embedded
from .local import Score, conditional_bound, conditional_difference, residual_bound
from .rivals import alpha_req, cluster_quality, lidar, rankme
from .sections import AGAIN, ANCHOR, FAR, INDEPENDENT, LATER, NEAR, REVOICED, VARIED, VIEWS, Sections
from .truth import LANGUAGE, PHONE, VOICE, phone_at

CODEBOOKS = (("kmeans", 32), ("whitened", 32))
MANY = ("whitened", 128)  # where 32 clusters may be too few
_BEFORE_THE_END = 0.0125  # middle of a frame's window, before the end of the anchor, in seconds


@dataclass(frozen=True)
class Setting:
    """Of one bound: which sections, how pooled, and how clustered.

    Attributes:
        view: One of :data:`VIEWS`.
        partner: The section that stands beside the anchor.
        pooling: One of :data:`POOLINGS`.
        quantizer: As that of :func:`lightning_mi.mi_bound`.
        num_clusters: K.
    """

    view: str
    partner: str
    pooling: str
    quantizer: str
    num_clusters: int

    @property
    def name(self) -> str:
        """Of the setting."""
        return f"{self.view}/{self.partner}/{self.pooling}/{self.quantizer}{self.num_clusters}"


def settings() -> Iterator[Setting]:
    """All that are tried."""
    for view, names in VIEWS.items():
        for partner in (*names[1:], AGAIN) if view == INDEPENDENT else names[1:]:
            for pooling in POOLINGS:
                for quantizer, num_clusters in (*CODEBOOKS, MANY):
                    if (quantizer, num_clusters) != MANY or pooling == MEAN or partner in (AGAIN, FAR):
                        yield Setting(view, partner, pooling, quantizer, num_clusters)


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
        estimates[setting] = mi_bound(anchor, partner, setting.num_clusters, groups, quantizer=setting.quantizer)
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
            name = f"{view}/{partner}/{pooling}/whitened32"
            found[f"conditional difference/{name}"] = conditional_difference(z_a, z_b, far, 32, groups)
            found[f"bound given the far cluster/{name}"] = conditional_bound(z_a, z_b, far, 32, groups)
            found[f"bound on the residual/{name}"] = residual_bound(z_a, z_b, far, 32, groups)
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
