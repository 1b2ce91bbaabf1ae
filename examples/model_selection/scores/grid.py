"""Grid of settings: the callback's default, what changes one argument of it, and the paper's.

A new setting is one line in :data:`CHANGES`, or in :data:`VIEW_CHANGES` if its segments are views of one moment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from lightning_mi.estimator.registry import ProbeName, QuantizerName
from lightning_mi.examples.model_selection.scores.conditions import (
    CONDITIONS,
    FAR,
    INDEPENDENT,
    LATER,
    LONG,
    LONG_SECONDS,
    MOMENTS,
    NEAR,
    SAME,
    SHARED,
    VIEW_LATER,
    VIEWS,
    WIDE_VIEWS,
)
from lightning_mi.examples.model_selection.scores.embed import BOUNDARY, CENTER, MEAN

CLUSTERS = 32
_ROOM = {LONG: f"{LONG_SECONDS:g} s", VIEWS: "views"}
_MINUS_FAR = {NEAR: "near_minus_far", SAME: "content"}


@dataclass(frozen=True)
class Setting:
    """Arguments of the callback; the defaults are those of ``MIBoundCallback(num_clusters=32)`` for speech.

    Attributes:
        condition: Which segments, through which channels: a name in ``conditions.CONDITIONS``.
        partner: The segment that stands beside the anchor: the callback's ``gap_seconds``. "later by 0.04" and
            "later by 0.12" are views that the callback does not have.
        pooling: The callback's ``pooling``.
        quantizer: The callback's ``quantizer``.
        num_clusters: The callback's ``num_clusters``.
        probe: The callback's ``probe``.
        among: Take only the pairs that have room for this condition too, LONG or VIEWS; empty: all.
    """

    condition: str = INDEPENDENT
    partner: str = NEAR
    pooling: str = BOUNDARY
    quantizer: QuantizerName = "canonical"
    num_clusters: int = CLUSTERS
    probe: ProbeName = "linear"
    among: str = ""

    @property
    def arguments(self) -> str:
        """The arguments that differ from the default, in the callback's order."""
        of_condition = CONDITIONS[self.condition].arguments
        every = {
            "num_clusters": str(self.num_clusters) if self.num_clusters != CLUSTERS else "",
            "segment_seconds": of_condition.get("segment_seconds", ""),
            "gap_seconds": self.partner if self.partner != NEAR else "",
            "pooling": self.pooling if self.pooling != BOUNDARY else "",
            "quantizer": self.quantizer if self.quantizer != "canonical" else "",
            "probe": self.probe if self.probe != "linear" else "",
            "channels": of_condition.get("channels", ""),
            "speed": of_condition.get("speed", ""),
        }
        among = [f"pairs with room for {_ROOM[self.among]}"] if self.among else []
        return ", ".join([f"{name}={value}" for name, value in every.items() if value] + among)

    @property
    def name(self) -> str:
        """Name of its bound.

        Example:
            >>> Setting().name, Setting(pooling=MEAN, num_clusters=64).name
            ('mi_bound()', 'mi_bound(num_clusters=64, pooling=mean)')
        """
        return f"mi_bound({self.arguments})"

    @property
    def minus_far(self) -> str:
        """Name of its bound minus its bound between distant segments.

        Example:
            >>> Setting(pooling=MEAN).minus_far, Setting(VIEWS, SAME, CENTER).minus_far
            ('near_minus_far(pooling=mean)', 'content(pooling=center, speed=1.3)')
        """
        return self._named(_MINUS_FAR.get(self.partner, f"{self.partner}_minus_far"))

    @property
    def with_later(self) -> str:
        """Name of the sum of what the views of one moment and of 80 ms later have above distant segments.

        Example:
            >>> Setting(VIEWS, SAME, CENTER).with_later
            'content_with_later(pooling=center, speed=1.3)'
        """
        return self._named("content_with_later")

    def _named(self, score: str) -> str:
        return f"{score}({replace(self, partner=NEAR).arguments})"


DEFAULT = Setting()
PAPER = Setting(SHARED, pooling=MEAN, quantizer="kmeans")
VOICE = Setting(LONG, pooling=MEAN)
CONTENT = Setting(VIEWS, SAME, CENTER)
"""The presets ``"adjacent"``, ``"paper"``, ``"voice"`` and ``"content"``, with 32 clusters."""

CHANGES: Mapping[str, Setting] = {
    "nothing: independent channels, 0.5 s, near, 32 canonical clusters": DEFAULT,
    'channels="shared"': replace(DEFAULT, condition=SHARED),
    "segment_seconds=1.0, on the pairs that have room": replace(DEFAULT, condition=LONG),
    "nothing, on the pairs that have room for 1 s": replace(DEFAULT, among=LONG),
    "gap_seconds=0.1": replace(DEFAULT, partner=LATER),
    'gap_seconds="far"': replace(DEFAULT, partner=FAR),
    'quantizer="kmeans"': replace(DEFAULT, quantizer="kmeans"),
    'quantizer="whitened"': replace(DEFAULT, quantizer="whitened"),
    "num_clusters=16": replace(DEFAULT, num_clusters=16),
    "num_clusters=64": replace(DEFAULT, num_clusters=64),
    "num_clusters=128": replace(DEFAULT, num_clusters=128),
    'probe="quadratic"': replace(DEFAULT, probe="quadratic"),
    'probe="fourier"': replace(DEFAULT, probe="fourier"),
}
"""What is changed, in words, and the setting then; each is tried with both poolings."""

VIEW_CHANGES: Mapping[str, Setting] = {
    "nothing: speeds up to 1.3, independent channels, 0.5 s, centre frame, 32 canonical clusters": CONTENT,
    "speed=1.6": replace(CONTENT, condition=WIDE_VIEWS),
    'pooling="mean"': replace(CONTENT, pooling=MEAN),
    'quantizer="kmeans"': replace(CONTENT, quantizer="kmeans"),
    "num_clusters=64": replace(CONTENT, num_clusters=64),
    'quantizer="kmeans", num_clusters=64': replace(CONTENT, quantizer="kmeans", num_clusters=64),
}
"""The same for views of one moment; each is tried with a view of 80 ms later, too."""


def settings() -> Iterator[Setting]:
    """All settings that are tried."""
    for pooling in (BOUNDARY, MEAN):
        for setting in CHANGES.values():
            yield replace(setting, pooling=pooling)
    yield PAPER
    yield replace(DEFAULT, among=VIEWS)
    for setting in VIEW_CHANGES.values():
        yield setting
        yield replace(setting, partner=VIEW_LATER)
    for moment in MOMENTS:
        if moment not in (SAME, VIEW_LATER):
            yield replace(CONTENT, partner=moment)


def minus_far() -> Iterator[Setting]:
    """Those from which the bound between distant segments is subtracted, too."""
    for pooling in (MEAN, BOUNDARY):
        yield replace(DEFAULT, pooling=pooling)
    for setting in settings():
        if setting.condition in (VIEWS, WIDE_VIEWS):
            yield setting


LOGGED = (
    PAPER.name,
    DEFAULT.name,
    DEFAULT.minus_far,
    replace(DEFAULT, quantizer="whitened").name,
    replace(DEFAULT, pooling=MEAN).name,
    VOICE.name,
    CONTENT.name,
    CONTENT.minus_far,
    replace(CONTENT, partner=VIEW_LATER).minus_far,
    CONTENT.with_later,
)
"""What every report shows: the settings of the callback's configs, whitened clusters and means beside them, and
what views of one moment and of 80 ms later share."""

LAYER_SCORES = (
    PAPER.name,
    DEFAULT.name,
    replace(DEFAULT, pooling=MEAN).name,
    replace(DEFAULT, quantizer="whitened").name,
    DEFAULT.minus_far,
    "RankMe(means)",
)
"""What every layer is scored by."""
