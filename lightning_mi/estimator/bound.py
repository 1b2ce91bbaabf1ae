"""mi_bound and labeled_mi_bound: variational lower bounds on mutual information, held out by cross-fitting.

    I(Z_a; Z_b) >= I(Z_a; f(Z_b)) = H(c) - H(c | Z_a) >= H(c) - E[-log q(c | z_a)],    c = f(z_b)

with f a k-means quantiser and q a linear probe (Liu, Yeh, Glass, "Revisiting Self-supervised Learning of
Speech Representation from a Mutual Information Perspective", ICASSP 2024, arXiv:2401.08833). H(c) and q's own
shares of the clusters are measured on the scored rows alike (:mod:`lightning_mi.estimator.contrast`), which never
lowers the bound and keeps it one.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from lightning_mi.estimator.checks import (
    check_choice,
    check_embeddings,
    check_finite,
    check_integer_vector,
    check_positive_int,
    check_same_rows,
)
from lightning_mi.estimator.contrast import contrast
from lightning_mi.estimator.cross_fit import CrossFit, check_clusters, cross_fit, order_rows
from lightning_mi.estimator.duplicates import group_copies
from lightning_mi.estimator.estimate import MIEstimate
from lightning_mi.estimator.folds import Fold, folds
from lightning_mi.estimator.gaussian_critic import fit_gaussian_critic, most_compared, partners
from lightning_mi.estimator.group_scores import GroupScores
from lightning_mi.estimator.registry import BOUNDS, PROBES, QUANTIZERS, BoundName, ProbeName, QuantizerName
from lightning_mi.threads import few_threads
from lightning_mi.torch_defaults import torch_defaults, where_float64_is

UNLABELED = -1


def mi_bound(
    z_a: Tensor,
    z_b: Tensor,
    num_clusters: int = 128,
    groups: Tensor | None = None,
    seed: int = 0,
    quantizer: QuantizerName = "kmeans",
    probe: ProbeName = "linear",
    bound: BoundName = "clusters",
) -> MIEstimate:
    """Lower bound on the mutual information of paired embeddings, in nats.

    The rows are cut into two halves of whole groups. K-means is fitted to ``z_b`` and a linear probe from
    ``z_a`` to its clusters on one half, its settings chosen inside that half; the other half is scored, each
    pair by log q(c | z_a) less the log of the mean of q(c | z_a') over all pairs of that half. Then the halves
    swap roles and the two results are averaged, so that every pair is scored, each by parts that have not seen
    its group.

    Args:
        z_a: ``(N, D)`` floating-point, embeddings of the first segments.
        z_b: ``(N, D')`` floating-point, embeddings of the second; row i belongs to row i of ``z_a``.
        num_clusters: K of the k-means, at most the number of rows in the smaller half.
        groups: ``(N,)`` integers; rows of one group (utterance, speaker, session) never stand on both sides
            of a split, and the standard error is taken over groups. ``None``: each row is its own group, but
            for copies of a pair, which are one (:func:`lightning_mi.estimator.duplicates.group_copies`).
        seed: Seed of the split and of the k-means. The global random generators are not touched.
        quantizer: What is clustered: ``"kmeans"``, ``z_b`` as it is (the paper's); ``"whitened"``, its principal
            coordinates at equal variance; ``"canonical"``, its canonical coordinates with ``z_a``.
        probe: What the clusters are predicted from: ``"linear"``, the coordinates of ``z_a`` (the paper's);
            ``"quadratic"``, also products of its leading coordinates; ``"fourier"``, also random cosines of them.
        bound: ``"clusters"``, or ``"contrastive"``, without clusters: a Gaussian critic in closed form tells the
            partner of each row from all ``z_b`` of its half (:mod:`lightning_mi.estimator.gaussian_critic`).
            ``num_clusters``, ``quantizer`` and ``probe`` are then not used; in the estimate the partners stand for
            the clusters, so that ``ceiling`` is the log of their number.

    Returns:
        The estimate; its expectation is at or below I(Z_a; Z_b).

    Raises:
        TypeError: If an embedding is not floating-point, or ``groups`` not integer.
        ValueError: If a shape is wrong, N differs, a value is not finite, there is one group only, or
            ``num_clusters`` is below 1 or above the number of rows to fit on, or there is no such
            ``quantizer``, ``probe`` or ``bound``, or there are fewer than about 64 rows for a contrastive bound.

    Source:
        Liu, Yeh, Glass, ICASSP 2024, arXiv:2401.08833, made held out (Barber and Agakov, "The IM algorithm",
        NeurIPS 2003, for the second inequality); Poole et al., ICML 2019, for the mean over the scored pairs.

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
    check_choice("probe", probe, PROBES)
    check_choice("bound", bound, BOUNDS)
    check_finite("z_b", z_b)
    z_a, z_b = where_float64_is(z_a), where_float64_is(z_b)
    if groups is None:
        groups = group_copies(z_a, z_b)
    order, groups = order_rows("z_a", z_a, groups, seed)
    with (
        torch.no_grad(),
        torch.autocast(z_a.device.type, enabled=False),
        torch_defaults(),
        few_threads(z_a.numel()),
    ):
        z_a, z_b = z_a.index_select(0, order), z_b.index_select(0, order)

        def score_clusters(fold: Fold, number: int) -> tuple[Tensor, Tensor]:
            check_clusters(num_clusters, fold, z_b.shape[0])
            fit_quantizer = QUANTIZERS[quantizer]
            fitted, clusters = fit_quantizer(z_a[fold.fit], z_b[fold.fit], num_clusters, 2 * seed + number)
            scored = fitted.assign(z_b[fold.score])
            q = PROBES[probe](z_a[fold.fit], clusters, num_clusters, fold.num_train)
            return scored, contrast(q.probabilities(z_a[fold.score]), scored, groups[fold.score])

        def score_partners(fold: Fold, number: int) -> tuple[Tensor, Tensor]:
            critic = fit_gaussian_critic(z_a[fold.fit], z_b[fold.fit], fold.num_train, 2 * seed + number)
            scores = critic.scores(z_a[fold.score], z_b[fold.score], groups[fold.score])
            return partners(len(scores), z_a.device), scores

        if bound == "clusters":
            return _bound(cross_fit(groups, num_clusters, score_clusters))
        most_partners = max(most_compared(fold.score.stop - fold.score.start) for fold in folds(groups))
        return _without_losses(_bound(cross_fit(groups, most_partners, score_partners)))


def labeled_mi_bound(
    z: Tensor, labels: Tensor, groups: Tensor | None = None, seed: int = 0, probe: ProbeName = "linear"
) -> MIEstimate:
    """Lower bound on the mutual information of embeddings and labels, I(Z; Y) >= H(Y) - CE, in nats.

    As :func:`mi_bound`, with labels in the place of the clusters.

    Args:
        z: ``(N, D)`` floating-point embeddings.
        labels: ``(N,)`` integer class labels, any numbers; rows with -1 have none and are left out.
        groups: ``(N,)`` integers, see :func:`mi_bound`. For frames: the utterance or the speaker.
        seed: Seed of the split.
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
    check_choice("probe", probe, PROBES)
    z = where_float64_is(z)
    labels = labels.to(z.device)
    labeled = labels != UNLABELED
    if not bool(labeled.all()):
        if groups is not None:
            check_integer_vector("groups", groups, z.shape[0])
            groups = groups.to(z.device)[labeled]
        z, labels = z[labeled], labels[labeled]
    classes, targets = labels.unique(return_inverse=True)
    num_classes = max(1, len(classes))
    order, groups = order_rows("z", z, groups, seed)
    with torch.no_grad(), torch.autocast(z.device.type, enabled=False), torch_defaults(), few_threads(z.numel()):
        z, targets = z.index_select(0, order), targets.index_select(0, order)

        def score_fold(fold: Fold, number: int) -> tuple[Tensor, Tensor]:
            q = PROBES[probe](z[fold.fit], targets[fold.fit], num_classes, fold.num_train)
            scored = targets[fold.score]
            return scored, contrast(q.probabilities(z[fold.score]), scored, groups[fold.score])

        return _bound(cross_fit(groups, num_classes, score_fold))


def _without_losses(estimate: MIEstimate) -> MIEstimate:
    """The same, with scores of 0 if their mean is below 0: a critic that was chosen from many on few rows may
    score far below one that knows nothing, which is no information that another estimate has gained."""
    assert estimate.scores is not None
    return replace(estimate, scores=estimate.scores.floored())


def _bound(fitted: CrossFit) -> MIEstimate:
    """The mean of the scores, which are contrasts."""
    entropy, mean = torch.stack([fitted.surprisal.mean(), fitted.scores.mean()]).tolist()
    scores = GroupScores.of_rows(fitted.groups, fitted.scores, fitted.middle)
    bound = min(max(0.0, mean), entropy)  # which it exceeds by rounding alone
    return fitted.estimate(bound, entropy, entropy - bound, scores, scores.stderr())
