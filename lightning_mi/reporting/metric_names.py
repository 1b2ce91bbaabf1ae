"""Logged metrics: every name that the callback logs, its unit and its meaning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lightning_mi.estimator import MIEstimate
from lightning_mi.validation.estimates import DIFFERENCES, Findings, Key, difference


@dataclass(frozen=True)
class LoggedMetric:
    """One row of :data:`METRICS`.

    Attributes:
        name: As it is logged with ``log_name="val/mi_bound"``; ``<gap>``, ``<layer>`` and ``<labels>`` stand for
            names.
        unit: ``"nats"``, ``"s"``, or empty for a count.
        meaning: What it is, and when it is logged.
    """

    name: str
    unit: str
    meaning: str


METRICS = (
    LoggedMetric("val/mi_bound", "nats", "the lower bound on I(Z_a; Z_b); also in the progress bar"),
    LoggedMetric(
        "mi_bound/stderr",
        "nats",
        "its standard error over groups, never less than the difference of the two halves implies",
    ),
    LoggedMetric("mi_bound/entropy", "nats", "H(c), the entropy of the clusters on the scored halves"),
    LoggedMetric(
        "mi_bound/cross_entropy",
        "nats",
        "E[-log q(c given z_a)] on the scored halves, with q weighted by cluster so that its mean is each "
        "cluster's share there; the bound is entropy minus cross-entropy",
    ),
    LoggedMetric("mi_bound/ceiling", "nats", "log K, which no bound with K clusters can exceed"),
    LoggedMetric(
        "mi_bound/active_clusters",
        "",
        "number of clusters that occur among the scored pairs; 1 is a collapsed model",
    ),
    LoggedMetric("mi_bound/pairs", "", "number of pairs that were used"),
    LoggedMetric(
        "mi_bound/skipped", "", "utterances left out: too short, silent, or with NaN in their embeddings"
    ),
    LoggedMetric("mi_bound/seconds", "s", "wall clock of the callback in this validation, on the slowest process"),
    LoggedMetric(
        "mi_bound/gain",
        "nats",
        "in `fit`, from the second value on: paired difference, group by group, to the mean of the validations "
        "since the last significant gain",
    ),
    LoggedMetric("mi_bound/gain_stderr", "nats", "its standard error"),
    LoggedMetric(
        "mi_bound/input",
        "nats",
        "input baseline: the same bound of the same segments' log-mel frames (with `time_dim` of the features), "
        "pooled as the model's frames are; measured once a run",
    ),
    LoggedMetric(
        "mi_bound/null",
        "nats",
        "null control: what a nearest-neighbour probe finds in pairs shuffled among utterances; must be 0 within "
        "its error, else near-duplicates stand on both sides of the split; measured once a run",
    ),
    LoggedMetric("mi_bound/null_stderr", "nats", "its standard error"),
    LoggedMetric("mi_bound/gap_<gap>/bound", "nats", "the bound at each distance, if `gap_seconds` has several"),
    LoggedMetric("mi_bound/gap_<gap>/stderr", "nats", "its standard error"),
    LoggedMetric(
        "mi_bound/near_minus_far",
        "nats",
        'if `gap_seconds` has both: the bound at "near" minus that at "far", pair by pair, i.e. what neighbouring '
        "segments share and distant ones do not. A difference of two bounds, hence no bound; may be negative",
    ),
    LoggedMetric("mi_bound/near_minus_far_stderr", "nats", "its standard error"),
    LoggedMetric(
        "mi_bound/content",
        "nats",
        'if `gap_seconds` has both: the bound at "same" minus that at "far", pair by pair, i.e. what two views of '
        "one moment share and views of distant moments do not. A difference of two bounds, hence no bound; may be "
        "negative",
    ),
    LoggedMetric("mi_bound/content_stderr", "nats", "its standard error"),
    LoggedMetric("mi_bound/layers/<layer>/bound", "nats", "the bound of each layer, if `layers` is given"),
    LoggedMetric("mi_bound/layers/<layer>/stderr", "nats", "its standard error"),
    LoggedMetric(
        "mi_bound/layers/<layer>/content", "nats", 'that of each layer, if `gap_seconds` has "same" and "far"'
    ),
    LoggedMetric("mi_bound/layers/<layer>/content_stderr", "nats", "its standard error"),
    LoggedMetric(
        "mi_bound/layers/<layer>/near_minus_far",
        "nats",
        'that of each layer, if `gap_seconds` has "near" and "far"',
    ),
    LoggedMetric("mi_bound/layers/<layer>/near_minus_far_stderr", "nats", "its standard error"),
    LoggedMetric(
        "mi_bound/labels/<labels>/bound",
        "nats",
        "the labelled bound I(Z; Y) >= H(Y) - CE of the primary layer, if `labels` is given",
    ),
    LoggedMetric("mi_bound/labels/<labels>/stderr", "nats", "its standard error"),
    LoggedMetric("mi_bound/labels/<labels>/entropy", "nats", "H(Y), which the labelled bound cannot exceed"),
    LoggedMetric(
        "mi_bound/labels/<labels>/layers/<layer>/bound", "nats", "the labelled bound of each layer, with `layers`"
    ),
    LoggedMetric("mi_bound/labels/<labels>/layers/<layer>/stderr", "nats", "its standard error"),
)


def metric_prefix(log_name: str) -> str:
    """Prefix of the detailed metrics: the last part of ``log_name``.

    Example:
        >>> metric_prefix("val/mi_bound")
        'mi_bound'
    """
    return log_name.rsplit("/", 1)[-1]


def metrics_of(findings: Findings, several_gaps: bool, several_layers: bool) -> dict[str, float]:
    """Names (below the prefix) and values of all estimates of a validation but its controls.

    Args:
        findings: Findings of the validation.
        several_gaps: Whether each gap is logged.
        several_layers: Whether each layer is logged.
    """
    values = dict(bound_metrics(findings.estimates, several_gaps, several_layers))
    labeled = {key: found.estimate for key, found in findings.labeled.items() if found.estimate is not None}
    values |= labeled_metrics(labeled, findings.primary_layer, several_layers)
    values["skipped"] = float(findings.skipped)
    return values


def bound_metrics(
    estimates: Mapping[Key, MIEstimate], several_gaps: bool, several_layers: bool
) -> Iterator[tuple[str, float]]:
    """Names (below the prefix) and values of the estimates, the primary one first.

    Args:
        estimates: By the names of layer and gap.
        several_gaps: Whether each gap is logged.
        several_layers: Whether each layer is logged.

    Example:
        >>> estimate = MIEstimate(1.5, 0.1, 4.0, 2.5, 4.85, 128, 120, 900, 900)
        >>> metrics = dict(bound_metrics({("rnn", "near"): estimate}, several_gaps=False, several_layers=True))
        >>> metrics["layers/rnn/bound"]
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
    layers = dict.fromkeys(layer for layer, _ in estimates)
    for name in DIFFERENCES:
        for layer in layers:
            found = difference(estimates, layer, name)
            if found is None:
                continue
            if several_layers:
                yield f"layers/{layer}/{name}", found[0]
                yield f"layers/{layer}/{name}_stderr", found[1]
            if layer == primary_layer:
                yield name, found[0]
                yield f"{name}_stderr", found[1]


def values_without_findings(
    gaps: Sequence[str], layers: Sequence[str], labels: Sequence[str], ceiling: float
) -> dict[str, float]:
    """What monitors see in a validation without findings: for each bound and difference that is logged the lowest
    that it can be, by its name below the prefix. A bound of 0 holds for any model, and a difference of two is at
    least minus their ceiling.

    Args:
        gaps: Names of the gaps.
        layers: Names of the layers that have bounds of their own; empty if ``layers`` is not given.
        labels: Names of the labels.
        ceiling: Log K, in nats.

    Example:
        >>> values_without_findings(["same", "far"], [], [], ceiling=3.5)
        {'gap_same/bound': 0.0, 'gap_far/bound': 0.0, 'content': -3.5, 'gain': -3.5}
    """
    differences = [name for name, pair in DIFFERENCES.items() if set(pair) <= set(gaps)]
    names = [f"gap_{gap}/bound" for gap in gaps if len(gaps) > 1]
    names += [f"layers/{layer}/bound" for layer in layers]
    for label in labels:
        names += [f"labels/{label}/bound", *(f"labels/{label}/layers/{layer}/bound" for layer in layers)]
    lowest = dict.fromkeys(names, 0.0)
    lowest |= {f"layers/{layer}/{name}": -ceiling for layer in layers for name in differences}
    return lowest | dict.fromkeys([*differences, "gain"], -ceiling)


def labeled_metrics(
    labeled: Mapping[Key, MIEstimate], primary_layer: str, several_layers: bool
) -> Iterator[tuple[str, float]]:
    """Names (below the prefix) and values of the labelled bounds.

    Args:
        labeled: By the names of layer and labels.
        primary_layer: The layer of ``labels/<labels>/bound``.
        several_layers: Whether each layer is logged.

    Example:
        >>> estimate = MIEstimate(1.5, 0.1, 4.0, 2.5, 4.85, 128, 120, 900, 900)
        >>> [name for name, _ in labeled_metrics({("rnn", "phone"): estimate}, "rnn", several_layers=False)]
        ['labels/phone/bound', 'labels/phone/stderr', 'labels/phone/entropy']
    """
    for (layer, labels), estimate in labeled.items():
        if several_layers:
            yield f"labels/{labels}/layers/{layer}/bound", estimate.bound
            yield f"labels/{labels}/layers/{layer}/stderr", estimate.stderr
        if layer == primary_layer:
            yield f"labels/{labels}/bound", estimate.bound
            yield f"labels/{labels}/stderr", estimate.stderr
            yield f"labels/{labels}/entropy", estimate.entropy
