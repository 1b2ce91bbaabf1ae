"""The bound: fit on one half, score the other, and the other way round.

    I(Z_a; Z_b) >= I(Z_a; f(Z_b)) = H(c) - H(c | Z_a) >= H(c) - E[-log q(c | z_a)],    c = f(z_b)

with f a k-means quantiser and q a linear probe (Liu, Yeh, Glass, "Revisiting Self-supervised Learning of
Speech Representation from a Mutual Information Perspective", ICASSP 2024, arXiv:2401.08833).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_mi.estimator.checks import (
    check_embeddings,
    check_finite,
    check_int,
    check_integer_vector,
    check_positive_int,
    check_same_rows,
)
from lightning_mi.estimator.probe import fit_probe
from lightning_mi.estimator.quantizer import fit_kmeans
from lightning_mi.estimator.split import cut_near, order_by_group

_INNER_SHARE = 0.75  # of the fit part; the rest of it chooses the probe's penalty


@dataclass(frozen=True)
class MIEstimate:
    """A lower bound on mutual information, held out, with its error bar. All in nats.

    Attributes:
        bound: ``entropy - cross_entropy``, never below 0 (mutual information is not).
        stderr: Standard error of the bound over groups.
        entropy: H(c), the plug-in entropy of the clusters (or labels) on the scored rows.
        cross_entropy: E[-log q(c | z)] of the probe on rows that it has not seen; of the marginal (the
            entropy itself) where the probe does worse than to say nothing.
        ceiling: log K, which no bound with K clusters can pass; of K classes for the labelled bound.
        num_clusters: K.
        active_clusters: How many of them occur among the scored rows (the mean of both halves, rounded).
        num_pairs: Number of rows, each of which was scored once.
        num_groups: Number of groups.

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

    def __float__(self) -> float:
        return self.bound

    def __str__(self) -> str:
        return (
            f"{self.bound:.3f} ± {self.stderr:.3f} nats (entropy {self.entropy:.3f}, "
            f"ceiling {self.ceiling:.3f}, {self.num_pairs} pairs)"
        )


def mi_bound(
    z_a: Tensor, z_b: Tensor, num_clusters: int = 128, groups: Tensor | None = None, seed: int = 0
) -> MIEstimate:
    """Lower bound on the mutual information of paired embeddings, in nats.

    The rows are cut into two halves of whole groups. K-means is fitted to ``z_b`` and a linear probe from
    ``z_a`` to its clusters on one half, its penalty chosen inside that half; the entropy and the
    cross-entropy are measured on the other half. Then the halves change places and the two results are
    averaged, so that every pair is scored, each by parts that have not seen its group.

    Args:
        z_a: ``(N, D)`` floating-point, embeddings of the first sections.
        z_b: ``(N, D')`` floating-point, embeddings of the second; row i belongs to row i of ``z_a``.
        num_clusters: K of the k-means, at most the number of rows in the smaller half.
        groups: ``(N,)`` integers; rows of one group (utterance, speaker, session) never stand on both sides
            of a split, and the standard error is taken over groups. ``None``: each row is its own group.
        seed: Of the split and of the k-means. The global random generators are not touched.

    Returns:
        The estimate; its expectation is at or below I(Z_a; Z_b).

    Raises:
        TypeError: If an embedding is not floating-point, or ``groups`` not integer.
        ValueError: If a shape is wrong, N differs, a value is not finite, there is one group only, or
            ``num_clusters`` is below 1 or above the number of rows to fit on.

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

    def quantize(fit_rows: Tensor, fold: int) -> Tensor:
        if num_clusters > len(fit_rows):
            raise ValueError(
                f"`num_clusters` must be at most the number of pairs that the k-means is fitted to, got "
                f"{num_clusters} clusters for {len(fit_rows)} of {z_b.shape[0]} pairs. Lower it or bring "
                "more pairs."
            )
        return fit_kmeans(z_b[fit_rows], num_clusters, seed=2 * seed + fold).assign(z_b)

    check_finite("z_b", z_b)
    return _cross_fit(z_a, "z_a", quantize, num_clusters, groups, seed)


def labeled_mi_bound(z: Tensor, labels: Tensor, groups: Tensor | None = None, seed: int = 0) -> MIEstimate:
    """Lower bound on the mutual information of embeddings and labels, I(Z; Y) >= H(Y) - CE, in nats.

    As :func:`mi_bound`, with labels in the place of the clusters.

    Args:
        z: ``(N, D)`` floating-point embeddings.
        labels: ``(N,)`` integer class labels, any numbers.
        groups: ``(N,)`` integers, see :func:`mi_bound`. For frames: the utterance or the speaker.
        seed: Of the split.

    Returns:
        The estimate; ``num_clusters`` is the number of classes and ``active_clusters`` how many occur.

    Raises:
        TypeError: If ``z`` is not floating-point, or ``labels`` or ``groups`` not integer.
        ValueError: If a shape is wrong, N differs, a value is not finite, or there is one group only.

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
    classes, targets = labels.to(z.device).unique(return_inverse=True)
    return _cross_fit(z, "z", lambda fit_rows, fold: targets, max(1, len(classes)), groups, seed)


def _cross_fit(
    z: Tensor,
    name: str,
    targets_of: Callable[[Tensor, int], Tensor],
    num_classes: int,
    groups: Tensor | None,
    seed: int,
) -> MIEstimate:
    """H - CE over both halves, where ``targets_of(fit_rows, fold)`` gives the target of every row."""
    num_rows = z.shape[0]
    check_finite(name, z)
    check_int("seed", seed)
    if groups is None:
        groups = torch.arange(num_rows, device=z.device)
    check_integer_vector("groups", groups, num_rows)
    groups = groups.to(z.device, torch.int64)
    if num_rows < 2:
        raise ValueError(f"`{name}` must have at least 2 rows, to fit on and to score, got {num_rows}.")

    scores, entropies, cross_entropies, active = [], [], [], []
    with torch.no_grad(), torch.autocast(z.device.type, enabled=False):
        for fold, (fit_rows, held_out, score_rows) in enumerate(_halves(groups, seed)):
            targets = targets_of(fit_rows, fold)
            probe = fit_probe(z[fit_rows], targets[fit_rows], num_classes, held_out)
            scored = targets[score_rows]
            log_q = probe.log_prob(z[score_rows], scored).double()
            counts = torch.bincount(scored, minlength=num_classes)
            surprisal = -(counts.double() / len(score_rows)).log()[scored]
            entropies.append(surprisal.mean())
            cross_entropies.append(-log_q.mean())
            active.append((counts > 0).sum())
            # The row's share of the bound, less the half's own mean: the influence function of H - CE.
            score = surprisal + log_q
            scores.append((score_rows, score - score.mean()))
        weights = torch.tensor([len(rows) / num_rows for rows, _ in scores], dtype=torch.float64)
        entropy = float(weights @ torch.stack(entropies).cpu())
        cross_entropy = float(weights @ torch.stack(cross_entropies).cpu())
        stderr, num_groups = _clustered_stderr(scores, groups)
    return MIEstimate(
        bound=max(0.0, entropy - cross_entropy),
        stderr=stderr,
        entropy=entropy,
        cross_entropy=min(cross_entropy, entropy),
        ceiling=math.log(num_classes),
        num_clusters=num_classes,
        active_clusters=round(float(torch.stack(active).double().mean())),
        num_pairs=num_rows,
        num_groups=num_groups,
    )


def _halves(groups: Tensor, seed: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield ``(fit_rows, held_out, score_rows)`` twice; ``held_out`` is a mask over ``fit_rows``."""
    order = order_by_group(groups, seed)
    middle = cut_near(groups[order], share=0.5)
    for fit_rows, score_rows in ((order[:middle], order[middle:]), (order[middle:], order[:middle])):
        fit_groups = groups[fit_rows]
        held_out = torch.zeros(len(fit_rows), dtype=torch.bool, device=groups.device)
        if bool((fit_groups != fit_groups[0]).any()):  # else no group is left to choose a penalty with
            held_out[cut_near(fit_groups, _INNER_SHARE) :] = True
        yield fit_rows, held_out, score_rows


def _clustered_stderr(scores: list[tuple[Tensor, Tensor]], groups: Tensor) -> tuple[float, int]:
    """Standard error of the mean of all scores where rows of one group are not independent (Liang and
    Zeger, Biometrika 1986), and the number of groups."""
    rows = torch.cat([rows for rows, _ in scores])
    deviations = torch.cat([deviation for _, deviation in scores])
    names, member_of = groups[rows].unique(return_inverse=True)
    sums = deviations.new_zeros(len(names)).index_add_(0, member_of, deviations)
    correction = len(names) / (len(names) - 1)
    return float((correction * sums.square().sum()).sqrt() / len(rows)), len(names)
