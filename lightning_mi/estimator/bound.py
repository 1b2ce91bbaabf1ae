"""The bound: fit on one half, score the other, and the other way round.

    I(Z_a; Z_b) >= I(Z_a; f(Z_b)) = H(c) - H(c | Z_a) >= H(c) - E[-log q(c | z_a)],    c = f(z_b)

with f a k-means quantiser and q a linear probe (Liu, Yeh, Glass, "Revisiting Self-supervised Learning of
Speech Representation from a Mutual Information Perspective", ICASSP 2024, arXiv:2401.08833).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lightning_mi.estimator.checks import (
    check_choice,
    check_embeddings,
    check_finite,
    check_int,
    check_integer_vector,
    check_positive_int,
    check_same_rows,
)
from lightning_mi.estimator.folds import Fold, folds, order_by_group
from lightning_mi.estimator.group_scores import GroupScores
from lightning_mi.estimator.registry import PROBES, QUANTIZERS

UNLABELED = -1


@dataclass(frozen=True)
class MIEstimate:
    """A lower bound on mutual information, held out, with its error bar. All in nats.

    Attributes:
        bound: ``entropy - cross_entropy``, never below 0 (mutual information is not).
        stderr: Standard error of the bound, over groups and over the two fits, see
            :func:`lightning_mi.estimator.group_scores.clustered_stderr`.
        entropy: H(c), the plug-in entropy of the clusters (or labels) on the scored rows.
        cross_entropy: E[-log q(c | z)] of the probe on rows that it has not seen; of the marginal (the
            entropy itself) where the probe does worse than to say nothing.
        ceiling: log K, which no bound with K clusters can pass; of K classes for the labelled bound.
        num_clusters: K.
        active_clusters: How many of them occur among the scored rows (the mean of both halves, rounded).
        num_pairs: Number of rows, each of which was scored once.
        num_groups: Number of groups.
        scores: What each group adds to the bound, on the host, for :meth:`gain_over`; neither shown nor
            compared.

    ``float(estimate)`` is the bound.

    Example:
        >>> estimate = MIEstimate(bound=1.5, stderr=0.1, entropy=4.0, cross_entropy=2.5, ceiling=4.85,
        ...                       num_clusters=128, active_clusters=120, num_pairs=2000, num_groups=2000)
        >>> print(estimate)
        1.500 ± 0.100 nats (entropy 4.000, ceiling 4.850, 2000 pairs)
    """

    bound: float
    stderr: float
    entropy: float
    cross_entropy: float
    ceiling: float
    num_clusters: int
    active_clusters: int
    num_pairs: int
    num_groups: int
    scores: GroupScores | None = field(default=None, repr=False, compare=False)

    def gain_over(self, other: MIEstimate) -> tuple[float, float]:
        """By how much this bound is above that of ``other``, and the standard error of that difference, in nats.

        The difference is taken group by group, over the groups that both estimates have scored, so what is hard
        or easy in a group falls out: two epochs can be told apart whose error bars overlap. It is the
        difference before either bound is floored at 0.

        Raises:
            ValueError: If fewer than 2 groups are in both, or an estimate does not hold its scores.

        Example:
            >>> import torch
            >>> generator = torch.Generator().manual_seed(0)
            >>> z_a, noise, more = torch.randn(3, 1000, 4, generator=generator)
            >>> good = mi_bound(z_a, z_a + 0.3 * noise, num_clusters=8)
            >>> bad = mi_bound(z_a, z_a + 0.3 * noise + 0.3 * more, num_clusters=8)
            >>> gain, stderr = good.gain_over(bad)
            >>> gain > 2 * stderr
            True
        """
        if self.scores is None or other.scores is None:
            raise ValueError("Only estimates that hold their `scores`, as `mi_bound` makes them, can be compared.")
        return self.scores.gain_over(other.scores)

    def __float__(self) -> float:
        return self.bound

    def __str__(self) -> str:
        return (
            f"{self.bound:.3f} ± {self.stderr:.3f} nats (entropy {self.entropy:.3f}, "
            f"ceiling {self.ceiling:.3f}, {self.num_pairs} pairs)"
        )


def mi_bound(
    z_a: Tensor,
    z_b: Tensor,
    num_clusters: int = 128,
    groups: Tensor | None = None,
    seed: int = 0,
    quantizer: str = "kmeans",
    probe: str = "linear",
) -> MIEstimate:
    """Lower bound on the mutual information of paired embeddings, in nats.

    The rows are cut into two halves of whole groups. K-means is fitted to ``z_b`` and a linear probe from
    ``z_a`` to its clusters on one half, its settings chosen inside that half; the entropy and the
    cross-entropy are measured on the other half. Then the halves change places and the two results are
    averaged, so that every pair is scored, each by parts that have not seen its group.

    Args:
        z_a: ``(N, D)`` floating-point, embeddings of the first segments.
        z_b: ``(N, D')`` floating-point, embeddings of the second; row i belongs to row i of ``z_a``.
        num_clusters: K of the k-means, at most the number of rows in the smaller half.
        groups: ``(N,)`` integers; rows of one group (utterance, speaker, session) never stand on both sides
            of a split, and the standard error is taken over groups. ``None``: each row is its own group.
        seed: Of the split and of the k-means. The global random generators are not touched.
        quantizer: What is clustered: ``"kmeans"``, ``z_b`` as it is (the paper's); ``"whitened"``, its principal
            coordinates at equal variance; ``"canonical"``, its canonical coordinates with ``z_a``.
        probe: What the clusters are predicted from: ``"linear"``, the coordinates of ``z_a`` (the paper's);
            ``"quadratic"``, also products of its leading coordinates; ``"fourier"``, also random cosines of them.

    Returns:
        The estimate; its expectation is at or below I(Z_a; Z_b).

    Raises:
        TypeError: If an embedding is not floating-point, or ``groups`` not integer.
        ValueError: If a shape is wrong, N differs, a value is not finite, there is one group only, or
            ``num_clusters`` is below 1 or above the number of rows to fit on, there is no such ``quantizer``
            or ``probe``, or ``start`` is of other groups, another ``num_clusters`` or another ``seed``.

    Source:
        Liu, Yeh, Glass, ICASSP 2024, arXiv:2401.08833, made held out (Barber and Agakov, "The IM algorithm",
        NeurIPS 2003, for the second inequality).

    Example:
        >>> import torch
        >>> generator = torch.Generator().manual_seed(0)
        >>> z_a = torch.randn(2000, 4, generator=generator)
        >>> z_b = z_a + 0.5 * torch.randn(2000, 4, generator=generator)
        >>> estimate = mi_bound(z_a, z_b, num_clusters=16)
        >>> true_value = 4 * 0.5 * torch.tensor(1 + 1 / 0.25).log().item()
        >>> 0.3 * true_value < estimate.bound < true_value
        True
        >>> mi_bound(z_a, z_b[torch.randperm(2000, generator=generator)], num_clusters=16).bound < 0.02
        True
    """
    check_embeddings("z_a", z_a)
    check_embeddings("z_b", z_b)
    check_same_rows("z_b", z_b.shape[0], "z_a", z_a.shape[0])
    check_positive_int("num_clusters", num_clusters)

    check_choice("quantizer", quantizer, QUANTIZERS)
    check_finite("z_b", z_b)
    rows = _Rows.of(z_a, "z_a", groups, seed)

    def quantize(z_a: Tensor, z_b: Tensor, fold: Fold, number: int) -> tuple[Tensor, Tensor]:
        num_fit = fold.fit.stop - fold.fit.start
        if num_clusters > num_fit:
            raise ValueError(
                f"`num_clusters` must be at most the number of pairs that the k-means is fitted to, got "
                f"{num_clusters} clusters for {num_fit} of {z_b.shape[0]} pairs. Lower it or bring more pairs."
            )
        fitted, members = QUANTIZERS[quantizer](z_a[fold.fit], z_b[fold.fit], num_clusters, 2 * seed + number)
        return members, fitted.assign(z_b[fold.score])

    return _cross_fit(z_a, z_b, rows, quantize, num_clusters, probe)


def labeled_mi_bound(
    z: Tensor, labels: Tensor, groups: Tensor | None = None, seed: int = 0, probe: str = "linear"
) -> MIEstimate:
    """Lower bound on the mutual information of embeddings and labels, I(Z; Y) >= H(Y) - CE, in nats.

    As :func:`mi_bound`, with labels in the place of the clusters.

    Args:
        z: ``(N, D)`` floating-point embeddings.
        labels: ``(N,)`` integer class labels, any numbers; rows with -1 have none and are left out.
        groups: ``(N,)`` integers, see :func:`mi_bound`. For frames: the utterance or the speaker.
        seed: Of the split.
        probe: As that of :func:`mi_bound`.

    Returns:
        The estimate; ``num_clusters`` is the number of classes and ``active_clusters`` how many occur.

    Raises:
        TypeError: If ``z`` is not floating-point, or ``labels`` or ``groups`` not integer.
        ValueError: If a shape is wrong, N differs, a value is not finite, there is one group only, or there
            is no such ``probe``.

    Source:
        Liu, Yeh, Glass, ICASSP 2024, arXiv:2401.08833; Barber and Agakov, NeurIPS 2003.

    Example:
        >>> import torch
        >>> labels = torch.arange(600) % 3
        >>> z = torch.nn.functional.one_hot(labels).float()
        >>> round(labeled_mi_bound(z, labels).bound, 1)  # log 3 = 1.0986
        1.1
    """
    check_embeddings("z", z)
    check_integer_vector("labels", labels, z.shape[0])
    labels = labels.to(z.device)
    labeled = labels != UNLABELED
    if not bool(labeled.all()):
        if groups is not None:
            check_integer_vector("groups", groups, z.shape[0])
            groups = groups.to(z.device)[labeled]
        z, labels = z[labeled], labels[labeled]
    classes, targets = labels.unique(return_inverse=True)
    known = max(1, len(classes))

    def look_up(z: Tensor, targets: Tensor, fold: Fold, number: int) -> tuple[Tensor, Tensor]:
        return targets[fold.fit], targets[fold.score]

    return _cross_fit(z, targets, _Rows.of(z, "z", groups, seed), look_up, known, probe)


@dataclass(frozen=True)
class _Rows:
    """The order in which rows are cut into halves, and their groups in that order, ``(N,)`` int64 each."""

    order: Tensor
    groups: Tensor

    @staticmethod
    def of(z: Tensor, name: str, groups: Tensor | None, seed: int) -> _Rows:
        num_rows = z.shape[0]
        check_finite(name, z)
        check_int("seed", seed)
        if groups is None:
            groups = torch.arange(num_rows, device=z.device)
        check_integer_vector("groups", groups, num_rows)
        groups = groups.to(z.device, torch.int64)
        if num_rows < 2:
            raise ValueError(f"`{name}` must have at least 2 rows, to fit on and to score, got {num_rows}.")
        order = order_by_group(groups, seed)
        return _Rows(order, groups[order])


def _cross_fit(
    z: Tensor,
    other: Tensor,
    rows: _Rows,
    targets_of: Callable[[Tensor, Tensor, Fold, int], tuple[Tensor, Tensor]],
    num_classes: int,
    probe: str,
) -> MIEstimate:
    """H - CE over both halves, where ``targets_of(z, other, fold, number)`` gives those of the rows to fit
    and of the rows to score."""
    check_choice("probe", probe, PROBES)
    num_rows, groups = z.shape[0], rows.groups
    with torch.no_grad(), torch.autocast(z.device.type, enabled=False):
        z, other = z.index_select(0, rows.order), other.index_select(0, rows.order)
        both = folds(groups)
        surprisal, log_q = z.new_empty(2, num_rows, dtype=torch.float64)
        active = []
        for number, fold in enumerate(both):
            targets, scored = targets_of(z, other, fold, number)
            fitted = PROBES[probe](z[fold.fit], targets, num_classes, fold.num_inner)
            log_q[fold.score] = fitted.log_prob(z[fold.score], scored).double()
            counts = torch.bincount(scored, minlength=num_classes)
            surprisal[fold.score] = -(counts.double() / len(scored)).log()[scored]
            active.append((counts > 0).sum())
        entropy, cross_entropy = torch.stack([surprisal.mean(), -log_q.mean()]).tolist()
        scores = GroupScores.of_rows(groups, surprisal + log_q, middle=both[0].fit.stop)
    return MIEstimate(
        bound=max(0.0, entropy - cross_entropy),
        stderr=scores.stderr(),
        entropy=entropy,
        cross_entropy=min(cross_entropy, entropy),
        ceiling=math.log(num_classes),
        num_clusters=num_classes,
        active_clusters=round(float(torch.stack(active).double().mean())),
        num_pairs=num_rows,
        num_groups=len(scores.groups),
        scores=scores,
    )
