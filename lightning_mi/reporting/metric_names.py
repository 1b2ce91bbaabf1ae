"""The names, below the callback's prefix, under which estimates are logged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lightning_mi.estimator import MIEstimate
from lightning_mi.validation.epoch import Key


def details(
    estimates: Mapping[Key, MIEstimate], several_gaps: bool, several_layers: bool
) -> Iterator[tuple[str, float]]:
    """What is logged beside the primary, which comes first in ``estimates``.

    Where the primary's layer has the gaps "near" and "far", ``local`` is the bound at the one less that at
    the other, pair by pair: what neighbours share that distant segments do not. It is a difference of two lower
    bounds, hence no bound itself, and may be below 0.

    Example:
        >>> estimate = MIEstimate(1.5, 0.1, 4.0, 2.5, 4.85, 128, 120, 900, 900)
        >>> dict(details({("rnn", "near"): estimate}, several_gaps=False, several_layers=True))["layers/rnn/bound"]
        1.5
    """
    (primary_layer, primary_gap), primary = next(iter(estimates.items()))
    for name in ("stderr", "entropy", "cross_entropy", "ceiling", "active_clusters"):
        yield name, float(getattr(primary, name))
    yield "pairs", float(primary.num_pairs)
    for (layer, gap), estimate in estimates.items():
        if layer == primary_layer and several_gaps:
            yield f"gap_{gap}/bound", estimate.bound
            yield f"gap_{gap}/stderr", estimate.stderr
        if gap == primary_gap and several_layers:
            yield f"layers/{layer}/bound", estimate.bound
            yield f"layers/{layer}/stderr", estimate.stderr
    near, far = (estimates.get((primary_layer, gap)) for gap in ("near", "far"))
    if near is not None and far is not None and near.scores is not None and far.scores is not None:
        local, stderr = near.scores.gain_over(far.scores)
        yield "near_minus_far", local
        yield "near_minus_far_stderr", stderr


def labeled_details(
    labeled: Mapping[Key, MIEstimate], primary_layer: str, several_layers: bool
) -> Iterator[tuple[str, float]]:
    """What is logged of the labelled bounds, by the names of layer and labels."""
    for (layer, labels), estimate in labeled.items():
        if several_layers:
            yield f"labels/{labels}/layers/{layer}/bound", estimate.bound
            yield f"labels/{labels}/layers/{layer}/stderr", estimate.stderr
        if layer == primary_layer:
            yield f"labels/{labels}/bound", estimate.bound
            yield f"labels/{labels}/stderr", estimate.stderr
            yield f"labels/{labels}/entropy", estimate.entropy
