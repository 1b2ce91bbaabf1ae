"""Scores of taps without labels: sums of bounds in many settings, and what else ranks models without labels."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from lightning_mi import MIEstimate, mi_bound
from lightning_mi.estimator.registry import BoundName, QuantizerName
from lightning_mi.examples.model_selection.scores.baselines import alpha_req, lidar, rankme
from lightning_mi.examples.public_encoders.conditions import CONDITIONS
from lightning_mi.examples.public_encoders.registry import SEARCH

RANKME = "RankMe"
CHOSEN = "same - later 40, k-means"
"""What the search half chose."""


@dataclass(frozen=True)
class Setting:
    """A bound, or what several bounds with one anchor are above that with another.

    Attributes:
        gains: Names of the gaps whose bounds are added up.
        less: Name of the gap whose bound is subtracted from each of them; none if empty.
        condition: How the segments are cut.
        pooling: How frames become one vector.
        num_clusters: K.
        quantizer: What is clustered.
        bound: Whether there are clusters at all.
    """

    gains: tuple[str, ...]
    less: str = "far"
    condition: str = "views"
    pooling: str = "center"
    num_clusters: int = 32
    quantizer: QuantizerName = "canonical"
    bound: BoundName = "clusters"

    @property
    def name(self) -> str:
        """What it is called in tables."""
        sign = f" - {self.less}" if self.less else ""
        times = f" - {len(self.gains)} {self.less}" if self.less and len(self.gains) > 1 else sign
        return " + ".join(self.gains) + times


_LATER = tuple(f"later {ms}" for ms in (40, 80, 120, 160))
_SAME_BOUND = Setting(("same",), less="")
_SAME = Setting(("same",))
_LATER_80 = Setting(("later 80",))
_SUM = Setting(("same", "later 80"))
_INSTANT = Setting(("same",), less="later 80")
_FAMILY = (_SAME_BOUND, _SAME, _LATER_80, _SUM, _INSTANT)
_LESS = dict.fromkeys((40, 120, 160), "views, other offsets") | dict.fromkeys(
    (240, 320, 480), "views, late offsets"
)
_BEFORE = {
    "adjacent": Setting(("near",), less="", condition="adjacent", pooling="boundary"),
    "near - far": Setting(("near",), condition="adjacent", pooling="boundary"),
    "voice": Setting(("near",), less="", condition="voice", pooling="mean"),
    "paper": Setting(("near",), less="", condition="paper", pooling="mean", quantizer="kmeans"),
}
_WITHOUT_CLUSTERS = {
    f"{name}, contrastive": replace(setting, bound="contrastive")
    for name, setting in {"same - far, 0.5 s": replace(_SAME, condition="views, 0.5 s"), **_BEFORE}.items()
}
_CHANGES: Mapping[str, dict[str, object]] = {
    "speed 1": {"condition": "views, speed 1"},
    "speed 1.6": {"condition": "views, speed 1.6"},
    "0.5 s": {"condition": "views, 0.5 s"},
    "K = 64": {"num_clusters": 64},
    "k-means": {"quantizer": "kmeans"},
    "mean": {"pooling": "mean"},
}


def settings(half: str) -> dict[str, Setting]:
    """Settings by name; those without a remark have 1 s, speed 1.3, K = 32, canonical, the centre frame.

    The judge half has the chosen one, its parts, the preset for content and what the callback had before.
    """
    return _searched() if half == SEARCH else _judged()


def _judged() -> dict[str, Setting]:
    views = {"condition": "views, chosen"}
    found = {each.name: replace(each, **views) for each in (_SAME_BOUND, _SAME)}  # type: ignore[arg-type]
    found["later 40 - far"] = Setting(("later 40",), **views)  # type: ignore[arg-type]
    found["same - later 40"] = Setting(("same",), less="later 40", **views)  # type: ignore[arg-type]
    found[CHOSEN] = replace(found["same - later 40"], quantizer="kmeans")
    found["same - far, k-means"] = replace(found["same - far"], quantizer="kmeans")
    found["same - far, 0.5 s"] = replace(_SAME, condition="views, 0.5 s")
    return found | _BEFORE | _WITHOUT_CLUSTERS


def _searched() -> dict[str, Setting]:
    found = {each.name: each for each in _FAMILY}
    for gap in _LATER:
        for each in (Setting((gap,)), Setting(("same", gap))):
            found.setdefault(each.name, replace(each, condition="views, other offsets"))
    for ms, condition in _LESS.items():
        each = Setting(("same",), less=f"later {ms}", condition=condition)
        found.setdefault(each.name, each)
        found[f"{each.name}, k-means"] = replace(each, quantizer="kmeans")
    for remark, change in _CHANGES.items():
        alike = _FAMILY[:2] if "speed" in remark else _FAMILY
        found |= {f"{each.name}, {remark}": replace(each, **change) for each in alike}  # type: ignore[arg-type]
    return found | _BEFORE | _WITHOUT_CLUSTERS


@dataclass(frozen=True)
class Scorer:
    """Scores one tap of an encoder.

    Attributes:
        tap: Its name.
        embeddings: By the name of the condition, what :func:`~.embed.segment_embeddings` found.
        frames: ``(N, D)``, frames of recordings as they are.
    """

    tap: str
    embeddings: Mapping[str, Mapping[str, Tensor]]
    frames: Tensor
    _kept: dict[object, MIEstimate] = field(default_factory=dict)

    def __call__(self, setting: Setting) -> float:
        """The score in nats; NaN if the condition was not embedded."""
        if setting.condition not in self.embeddings:
            return float("nan")
        gains = [self._bound(gap, setting) for gap in setting.gains]
        if not setting.less:
            return sum(each.bound for each in gains)
        less = self._bound(setting.less, setting)
        # Both floored at 0, as in the callback's differences.
        return sum(each.bound - less.bound for each in gains)

    def baselines(self) -> dict[str, float]:
        """Scores that are no bounds, of frames (LiDAR: of two views of one moment)."""
        frames = self.frames.float()
        views = next(each for name, each in self.embeddings.items() if name.startswith("views"))
        pairs = views[f"{self.tap}/center"][:, :2].float()
        wanted: dict[str, Callable[[], float]] = {
            RANKME: lambda: rankme(frames),
            "alpha-ReQ": lambda: -abs(alpha_req(frames) - 1),
            "LiDAR": lambda: lidar(pairs),
            "dimension": lambda: float(frames.shape[1]),
        }
        return {name: score() for name, score in wanted.items()}

    def _bound(self, gap: str, setting: Setting) -> MIEstimate:
        key = (gap, replace(setting, gains=(), less=""))
        if key not in self._kept:
            found = self.embeddings[setting.condition]
            segments = found[f"{self.tap}/{setting.pooling}"]
            self._kept[key] = mi_bound(
                segments[:, 0].float(),
                segments[:, _position(setting.condition, gap)].float(),
                setting.num_clusters,
                found["groups"],
                quantizer=setting.quantizer,
                bound=setting.bound,
            )
        return self._kept[key]


@functools.cache
def _position(condition: str, gap: str) -> int:
    (found,) = (each for each in CONDITIONS if each.name == condition)
    return 1 + [each.name for each in found.gaps].index(gap)
