"""Histories that tests draw: numbers without a model."""

from __future__ import annotations

import math

from lightning_mi import MIEstimate
from lightning_mi.reporting.history import History


def estimate(bound: float, stderr: float = 0.03, entropy: float = 4.5, clusters: int = 128) -> MIEstimate:
    return MIEstimate(
        bound=bound,
        stderr=stderr,
        entropy=entropy,
        cross_entropy=entropy - bound,
        ceiling=math.log(clusters),
        num_clusters=clusters,
        active_clusters=clusters - 3,
        num_pairs=2000,
        num_groups=2000,
    )


def history(epochs: int = 5, layers: int = 1, **kwargs: object) -> History:
    """Bounds rise with the epoch and are highest in the middle layer; the primary is the last layer."""
    made = History(**kwargs)
    for epoch in range(epochs):
        bounds = {
            f"model.layers.{layer}": 1 - 1 / (epoch + 2) + 0.1 * min(layer, layers - layer)
            for layer in range(layers)
        }
        order = sorted(bounds, key=lambda name: name != f"model.layers.{layers - 1}")
        made.append(epoch, 100 * (epoch + 1), {(name, "near"): estimate(bounds[name]) for name in order})
    return made
