"""What two neighbouring segments share beyond what distant ones share: one score and two bounds.

``z_a`` and ``z_b`` are neighbours, ``z_far`` is a segment of the same utterance that is far from both. All share
the channel and the voice; only the neighbours share what is being said. The split, the quantiser and the probe are
those of :func:`lightning_mi.mi_bound`: nothing that scores has seen the rows that it scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_mi.estimator.folds import Fold, folds, order_by_group
from lightning_mi.estimator.group_scores import GroupScores
from lightning_mi.estimator.kmeans import fit_kmeans
from lightning_mi.estimator.registry import PROBES, QUANTIZERS

_RIDGES = (1e-4, 1e-2, 1.0, 100.0)  # shares of the mean variance of z_far


@dataclass(frozen=True)
class Score:
    """A value in nats and its standard error over groups.

    Attributes:
        value: In nats. Unlike a bound, it is not cut off at 0.
        stderr: As that of :func:`lightning_mi.mi_bound`.
    """

    value: float
    stderr: float


@dataclass(frozen=True)
class _Split:
    """One way round: rows in the order of the groups, and which are fitted."""

    z_a: Tensor
    z_b: Tensor
    z_far: Tensor
    fold: Fold
    number: int


_Scoring = Callable[[_Split], Tensor]  # of the rows to score: (rows,) float64


def conditional_difference(
    z_a: Tensor,
    z_b: Tensor,
    z_far: Tensor,
    num_clusters: int,
    groups: Tensor,
    seed: int = 0,
    quantizer: str = "whitened",
) -> Score:
    """CE(c | z_far) - CE(c | z_far, z_a) with c = f(z_b), in nats.

    It estimates I(Z_a; c | Z_far), and is **not a bound** on it: each cross-entropy is an upper bound on its
    entropy, and a weak probe on ``z_far`` makes the difference too high.

    Args:
        z_a: ``(N, D)`` embeddings of the anchors.
        z_b: ``(N, D)`` of their neighbours.
        z_far: ``(N, D)`` of distant segments.
        num_clusters: K of the codebook, one for both terms.
        groups: ``(N,)`` int64, the utterances.
        seed: Of the split and the k-means.
        quantizer: As that of :func:`lightning_mi.mi_bound`.
    """

    def score(split: _Split) -> Tensor:
        codes, scored = _quantize(split, split.z_b, num_clusters, seed, quantizer)
        alone = _log_prob(split, split.z_far, codes, scored, num_clusters)
        both = _log_prob(split, torch.cat([split.z_far, split.z_a], dim=1), codes, scored, num_clusters)
        return both - alone

    return _cross_fit(z_a, z_b, z_far, groups, seed, score)


def conditional_bound(
    z_a: Tensor,
    z_b: Tensor,
    z_far: Tensor,
    num_clusters: int,
    groups: Tensor,
    num_backgrounds: int = 8,
    seed: int = 0,
    quantizer: str = "whitened",
) -> Score:
    """H(c | g) - CE(c | z_a, g) with c = f(z_b) and g = h(z_far), both clusters: a lower bound on I(Z_a; Z_b | g).

    Because g is one of few, the entropy H(c | g) can be measured: conditional entropy is concave in the joint
    distribution, so its plug-in value on the scored rows is at or below the true one in expectation (Jensen), by
    up to about ``K num_backgrounds / N`` nats. Held-out cross-entropy is at or above H(c | Z_a, g). What it
    conditions on is only the cluster of the distant segment: the channel and the voice are removed as far as g
    tells them.

    Args:
        z_a: ``(N, D)`` embeddings of the anchors.
        z_b: ``(N, D)`` of their neighbours.
        z_far: ``(N, D')`` of distant segments.
        num_clusters: K of the codebook of ``z_b``.
        groups: ``(N,)`` int64, the utterances.
        num_backgrounds: Clusters of ``z_far``.
        seed: Of the split and the k-means.
        quantizer: As that of :func:`lightning_mi.mi_bound`.
    """

    def score(split: _Split) -> Tensor:
        codes, scored = _quantize(split, split.z_b, num_clusters, seed, quantizer)
        far, _ = fit_kmeans(split.z_far[split.fold.fit], num_backgrounds, 2 * seed + split.number)
        background = far.assign(split.z_far)
        known = torch.nn.functional.one_hot(background, num_backgrounds).to(split.z_a.dtype)
        log_q = _log_prob(split, torch.cat([split.z_a, known], dim=1), codes, scored, num_clusters)
        return log_q - _log_conditional(scored, background[split.fold.score], num_clusters, num_backgrounds)

    return _cross_fit(z_a, z_b, z_far, groups, seed, score)


def residual_bound(
    z_a: Tensor,
    z_b: Tensor,
    z_far: Tensor,
    num_clusters: int,
    groups: Tensor,
    seed: int = 0,
    quantizer: str = "whitened",
) -> Score:
    """H(c) - CE(c | z_a) with c = f(z_b - A z_far), A a ridge regression: a lower bound on I(Z_a; Z_b - A Z_far).

    What the distant segment tells of ``z_b`` linearly, the channel and the voice above all, is taken off before
    clustering. For any A the number is a lower bound on the information between Z_a and the residual (and on that
    between Z_a and the pair (Z_b, Z_far)); A is fitted to the rows that the quantiser is fitted to, its ridge
    chosen inside of them.

    Args:
        z_a: ``(N, D)`` embeddings of the anchors.
        z_b: ``(N, D)`` of their neighbours.
        z_far: ``(N, D')`` of distant segments.
        num_clusters: K of the codebook.
        groups: ``(N,)`` int64, the utterances.
        seed: Of the split and the k-means.
        quantizer: As that of :func:`lightning_mi.mi_bound`.
    """

    def score(split: _Split) -> Tensor:
        residual = split.z_b - _regress(split.z_far, split.z_b, split.fold)
        codes, scored = _quantize(split, residual, num_clusters, seed, quantizer)
        counts = torch.bincount(scored, minlength=num_clusters).double()
        log_marginal = (counts / counts.sum()).log()[scored]
        return _log_prob(split, split.z_a, codes, scored, num_clusters) - log_marginal

    return _cross_fit(z_a, z_b, z_far, groups, seed, score)


def _cross_fit(z_a: Tensor, z_b: Tensor, z_far: Tensor, groups: Tensor, seed: int, score: _Scoring) -> Score:
    with torch.no_grad():
        order = order_by_group(groups, seed)
        groups = groups[order]
        scores = torch.empty(len(groups), dtype=torch.float64)
        for split in _ways(z_a[order], z_b[order], z_far[order], groups):
            scores[split.fold.score] = score(split)
        by_group = GroupScores.of_rows(groups, scores, middle=folds(groups)[0].fit.stop)
    return Score(float(scores.mean()), by_group.stderr())


def _ways(z_a: Tensor, z_b: Tensor, z_far: Tensor, groups: Tensor) -> Iterator[_Split]:
    for number, fold in enumerate(folds(groups)):
        yield _Split(z_a, z_b, z_far, fold, number)


def _quantize(split: _Split, z_b: Tensor, num_clusters: int, seed: int, quantizer: str) -> tuple[Tensor, Tensor]:
    """Codes of the rows that are fitted, and of those that are scored."""
    fold = split.fold
    fitted, codes = QUANTIZERS[quantizer](
        split.z_a[fold.fit], z_b[fold.fit], num_clusters, 2 * seed + split.number, None
    )
    return codes, fitted.assign(z_b[fold.score])


def _log_prob(split: _Split, z: Tensor, codes: Tensor, scored: Tensor, num_clusters: int) -> Tensor:
    probe = PROBES["linear"](z[split.fold.fit], codes, num_clusters, split.fold.num_inner)
    return probe.log_prob(z[split.fold.score], scored).double()


def _log_conditional(codes: Tensor, backgrounds: Tensor, num_clusters: int, num_backgrounds: int) -> Tensor:
    """log p(c | g) of each row, by counting."""
    joint = torch.zeros(num_backgrounds, num_clusters, dtype=torch.float64)
    joint.index_put_((backgrounds, codes), torch.ones(len(codes), dtype=torch.float64), accumulate=True)
    share = joint / joint.sum(dim=1, keepdim=True).clamp(min=1)
    return share[backgrounds, codes].log()


def _regress(x: Tensor, y: Tensor, fold: Fold) -> Tensor:
    """Prediction of all rows of ``y`` from ``x`` by ridge regression, fitted to one half."""
    x, y = x.double(), y.double()
    inner = slice(fold.fit.start, fold.fit.start + fold.num_inner)
    judge = slice(inner.stop, fold.fit.stop)

    def predict(rows: slice, ridge: float) -> Tensor:
        x_mean, y_mean = x[rows].mean(dim=0), y[rows].mean(dim=0)
        centred = x[rows] - x_mean
        gram = centred.T @ centred
        gram.diagonal().add_(ridge * gram.diagonal().mean() + 1e-9)
        slope = torch.linalg.solve(gram, centred.T @ (y[rows] - y_mean))
        return (x - x_mean) @ slope + y_mean

    def loss(ridge: float) -> float:
        return float((predict(inner, ridge) - y)[judge].square().sum())

    best = min(_RIDGES, key=loss) if judge.stop > judge.start else _RIDGES[-1]
    return predict(fold.fit, best).float()
