"""Shuffled bound (permutation null): the bound of pairs without mutual information, which detects a leaking split.

A random shuffle of all rows makes the two sides independent whatever the rows are, and cannot detect a leak. Here
near-duplicates stay together: all rows of one cluster of near-duplicates get the same partner, from one row of
another cluster. Clusters are independent of one another, so the mutual information is zero; but if a cluster is on
both sides of the split, a nearest-neighbour probe predicts the partner.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_mi.estimator.checks import (
    check_embeddings,
    check_finite,
    check_integer_vector,
    check_positive_int,
    check_same_rows,
    check_seed,
)
from lightning_mi.estimator.cross_fit import check_clusters, cross_fit
from lightning_mi.estimator.estimate import MIEstimate
from lightning_mi.estimator.folds import Fold, order_by_group
from lightning_mi.estimator.group_scores import GroupScores
from lightning_mi.estimator.kmeans import fit_kmeans
from lightning_mi.estimator.knn_probe import fit_nearest_neighbors
from lightning_mi.hashing import mix
from lightning_mi.threads import few_threads
from lightning_mi.torch_defaults import torch_defaults, where_float64_is

_SHUFFLE = 0x6E756C6C  # another order than that of the split
_MAX_ROWS = 16384  # searched for nearest neighbours; enough to detect any leak that matters


def null_bound(
    z_a: Tensor,
    z_b: Tensor,
    near_duplicates: Tensor,
    num_clusters: int = 128,
    groups: Tensor | None = None,
    seed: int = 0,
) -> MIEstimate:
    """Lower bound on the mutual information of embeddings whose partners were shuffled among clusters, in nats.

    It is 0 within its error, unless near-duplicates are in different groups and have similar embeddings. Split,
    k-means and cross-fitting are those of :func:`lightning_mi.mi_bound`. The probe is a nearest-neighbour probe
    (:func:`lightning_mi.estimator.knn_probe.fit_nearest_neighbors`). Its score is its gain over the marginal of
    the rows that it was fitted to, which reacts to a smaller leak than a linear probe's bound. The value detects a
    leak; it does not estimate by how much the leak raises a linear probe's bound.

    Args:
        z_a: ``(N, D)`` floating-point, embeddings of the first segments.
        z_b: ``(N, D')`` floating-point, embeddings of the second.
        near_duplicates: ``(N,)`` integers, one id for each cluster of near-duplicates. All rows of a cluster get
            the ``z_b`` of one row of the next cluster, in the order of a hash of the ids and the seed.
        num_clusters: K of the k-means, at most the number of rows in the smaller half.
        groups: ``(N,)`` integers; rows of one group never stand on both sides of a split. ``None``: each row is
            its own group.
        seed: Seed of the shuffle, the split and the k-means.

    Returns:
        The estimate. Its ``stderr`` is
        :meth:`lightning_mi.estimator.group_scores.GroupScores.stderr_of_scoring`. Above 16384 rows some clusters
        are left out.

    Raises:
        TypeError: If an embedding is not floating-point, or ``near_duplicates`` or ``groups`` not integer.
        ValueError: If a shape is wrong, N differs, a value is not finite, there is one group or one cluster only,
            or ``num_clusters`` is below 1 or above the number of rows to fit on.

    Example:
        >>> import torch
        >>> z = torch.randn(400, 8, generator=torch.Generator().manual_seed(0))
        >>> null_bound(z, z, torch.arange(400), num_clusters=8).bound < 0.01
        True
        >>> twice = torch.cat([z, z])  # and the split separates the copies
        >>> null_bound(twice, twice, torch.arange(800) % 400, num_clusters=8).bound > 0.5
        True
    """
    check_embeddings("z_a", z_a)
    check_embeddings("z_b", z_b)
    check_same_rows("z_b", z_b.shape[0], "z_a", z_a.shape[0])
    check_positive_int("num_clusters", num_clusters)
    check_seed(seed)
    check_finite("z_a", z_a)
    check_finite("z_b", z_b)
    z_a, z_b = where_float64_is(z_a), where_float64_is(z_b)
    num_rows, device = z_a.shape[0], z_a.device
    if groups is None:
        groups = torch.arange(num_rows, device=device)
    check_integer_vector("near_duplicates", near_duplicates, num_rows)
    check_integer_vector("groups", groups, num_rows)
    near_duplicates, groups = near_duplicates.to(device, torch.int64), groups.to(device, torch.int64)
    if not bool((near_duplicates != near_duplicates[0]).any()):
        raise ValueError(
            f"`near_duplicates` must hold at least 2 different clusters, got 1 in {num_rows} rows. "
            "Partners come from other clusters, so add rows that are not near-duplicates of these."
        )
    with torch.no_grad(), torch.autocast(device.type, enabled=False), torch_defaults(), few_threads(z_a.numel()):
        rows, partners = shuffle_partners(near_duplicates, seed)
        z_a, z_b, groups = z_a[rows], z_b[partners], groups[rows]
        order = order_by_group(groups, seed)
        z_a, z_b, groups = z_a[order], z_b[order], groups[order]

        def score_fold(fold: Fold, number: int) -> tuple[Tensor, Tensor]:
            check_clusters(num_clusters, fold, len(rows))
            quantizer, clusters = fit_kmeans(z_b[fold.fit], num_clusters, 2 * seed + number)
            scored = quantizer.assign(z_b[fold.score])
            probe = fit_nearest_neighbors(z_a[fold.fit], clusters, num_clusters, groups[fold.fit])
            return scored, probe.log_ratio(z_a[fold.score], scored)

        fitted = cross_fit(groups, num_clusters, score_fold)
        gain, entropy = torch.stack([fitted.scores.mean(), fitted.surprisal.mean()]).tolist()
        scores = GroupScores.of_rows(groups, fitted.scores, fitted.middle)
    bound = max(0.0, gain)
    return fitted.estimate(bound, entropy, max(0.0, entropy - bound), scores, scores.stderr_of_scoring())


def shuffle_partners(near_duplicates: Tensor, seed: int, max_rows: int = _MAX_ROWS) -> tuple[Tensor, Tensor]:
    """Give all rows of a cluster the same partner, from another cluster.

    Clusters form a cycle in the order of a hash, and each gets the partner of the first row of the next.

    Args:
        near_duplicates: ``(N,)`` int64, the cluster of each row, at least 2 different ones.
        seed: Seed of the hash.
        max_rows: Maximum number of rows to use; whole clusters are left out, and at least 2 are kept.

    Returns:
        The used rows ``(M,)`` int64, and for each the row whose partner it gets ``(M,)`` int64.

    Example:
        >>> import torch
        >>> rows, partners = shuffle_partners(torch.tensor([7, 7, 5]), seed=0)
        >>> sorted(zip(rows.tolist(), partners.tolist()))
        [(0, 2), (1, 2), (2, 0)]
    """
    order = torch.argsort(mix(near_duplicates, seed ^ _SHUFFLE), stable=True)
    _, member_of, sizes = near_duplicates[order].unique_consecutive(return_inverse=True, return_counts=True)
    firsts = order[sizes.cumsum(dim=0) - sizes]
    num_used = int((sizes.cumsum(dim=0) <= max_rows).sum().clamp(min=2))
    used = member_of < num_used
    return order[used], firsts[:num_used].roll(-1)[member_of[used]]
