"""The null: the bound where there is nothing to find, so that what it does find is a leak of the split.

A random shuffle of one side makes any two columns independent, whatever the rows are, and would find nothing. Here
copies stay copies: rows of one family all get the same partner, from one row of another family. Families are
independent of one another, so the mutual information is zero; but where a family stands on both sides of the
split, a probe that remembers what it was fitted to knows the answer.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_mi.estimator.bound import MIEstimate
from lightning_mi.estimator.checks import (
    check_embeddings,
    check_finite,
    check_int,
    check_integer_vector,
    check_positive_int,
    check_same_rows,
)
from lightning_mi.estimator.folds import folds, order_by_group
from lightning_mi.estimator.group_scores import GroupScores
from lightning_mi.estimator.kmeans import fit_kmeans
from lightning_mi.estimator.knn_probe import fit_nearest
from lightning_mi.hashing import mix

_SHUFFLE = 0x6E756C6C  # beside the seed: not the order that the split is made by
_MOST_ROWS = 16384  # among which nearest neighbours are looked for; enough to find any leak that matters


def null_bound(
    z_a: Tensor,
    z_b: Tensor,
    families: Tensor,
    num_clusters: int = 128,
    groups: Tensor | None = None,
    seed: int = 0,
) -> MIEstimate:
    """Lower bound on the mutual information of embeddings whose partners were shuffled among families, in nats.

    It is 0 within its error, unless rows of one family stand in different groups and the embeddings tell it.
    Split, k-means and cross-fitting are those of :func:`lightning_mi.mi_bound`. The probe is another one, which
    remembers (:func:`lightning_mi.estimator.knn_probe.fit_nearest`), and its score is what it adds to the marginal
    of the rows that it was fitted to: this finds a leak long before it shows in a linear probe's bound. So the
    value says that there is a leak, and not how much higher a linear probe's bound is for it.

    Args:
        z_a: ``(N, D)`` floating-point, embeddings of the first segments.
        z_b: ``(N, D')`` floating-point, embeddings of the second.
        families: ``(N,)`` integers; rows of one family may be copies of one another. All of them get the ``z_b``
            of one row of the next family, in an order that hangs on their numbers and the seed alone.
        num_clusters: K of the k-means, at most the number of rows in the smaller half.
        groups: ``(N,)`` integers; rows of one group never stand on both sides of a split. ``None``: each row is
            its own group.
        seed: Of the shuffle, the split and the k-means.

    Returns:
        The estimate; its ``stderr`` is that of the scores for these two fits, since the question is whether they
        are 0. Of more than 16384 rows some families are left out.

    Raises:
        TypeError: If an embedding is not floating-point, or ``families`` or ``groups`` not integer.
        ValueError: If a shape is wrong, N differs, a value is not finite, there is one group or one family only,
            or ``num_clusters`` is below 1 or above the number of rows to fit on.

    Example:
        >>> import torch
        >>> z = torch.randn(400, 8, generator=torch.Generator().manual_seed(0))
        >>> null_bound(z, z, torch.arange(400), num_clusters=8).bound < 0.01
        True
        >>> twice = torch.cat([z, z])  # and nobody has told the split
        >>> null_bound(twice, twice, torch.arange(800) % 400, num_clusters=8).bound > 0.5
        True
    """
    check_embeddings("z_a", z_a)
    check_embeddings("z_b", z_b)
    check_same_rows("z_b", z_b.shape[0], "z_a", z_a.shape[0])
    check_positive_int("num_clusters", num_clusters)
    check_int("seed", seed)
    check_finite("z_a", z_a)
    check_finite("z_b", z_b)
    num_rows, device = z_a.shape[0], z_a.device
    if groups is None:
        groups = torch.arange(num_rows, device=device)
    check_integer_vector("families", families, num_rows)
    check_integer_vector("groups", groups, num_rows)
    families, groups = families.to(device, torch.int64), groups.to(device, torch.int64)
    if not bool((families != families[0]).any()):
        raise ValueError(f"`families` must hold at least 2 different families, got 1 in {num_rows} rows.")
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        rows, partners = _shuffled(families, seed)
        z_a, z_b, groups = z_a[rows], z_b[partners], groups[rows]
        order = order_by_group(groups, seed)
        z_a, z_b, groups = z_a[order], z_b[order], groups[order]
        both = folds(groups)
        gains = torch.empty(len(rows), dtype=torch.float64, device=device)
        surprisal, active = torch.empty_like(gains), []
        for number, fold in enumerate(both):
            num_fit = fold.fit.stop - fold.fit.start
            if num_clusters > num_fit:
                raise ValueError(
                    f"`num_clusters` must be at most the number of rows that the k-means is fitted to, got "
                    f"{num_clusters} clusters for {num_fit} of {len(rows)} rows. Lower it or bring more rows."
                )
            quantizer, classes = fit_kmeans(z_b[fold.fit], num_clusters, 2 * seed + number)
            scored = quantizer.assign(z_b[fold.score])
            probe = fit_nearest(z_a[fold.fit], classes, num_clusters, groups[fold.fit])
            gains[fold.score] = probe.log_ratio(z_a[fold.score], scored)
            counts = torch.bincount(scored, minlength=num_clusters)
            surprisal[fold.score] = -(counts.double() / len(scored)).log()[scored]
            active.append((counts > 0).sum())
        gain, entropy = torch.stack([gains.mean(), surprisal.mean()]).tolist()
        scores = GroupScores.of_rows(groups, gains, middle=both[0].fit.stop)
    bound = max(0.0, gain)
    return MIEstimate(
        bound=bound,
        stderr=scores.stderr_of_scoring(),
        entropy=entropy,
        cross_entropy=max(0.0, entropy - bound),
        ceiling=math.log(num_clusters),
        num_clusters=num_clusters,
        active_clusters=round(float(torch.stack(active).double().mean())),
        num_pairs=len(rows),
        num_groups=len(scores.groups),
        scores=scores,
    )


def _shuffled(families: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Rows that are used, ``(M,)``, and for each the row whose partner it gets, ``(M,)``.

    Families stand in a circle, in the order of a hash, and each gets the partner of the first row of the next.
    """
    order = torch.argsort(mix(families, seed ^ _SHUFFLE), stable=True)
    _, member_of, sizes = families[order].unique_consecutive(return_inverse=True, return_counts=True)
    firsts = order[sizes.cumsum(dim=0) - sizes]
    num_used = int((sizes.cumsum(dim=0) <= _MOST_ROWS).sum().clamp(min=2))
    used = member_of < num_used
    return order[used], firsts[:num_used].roll(-1)[member_of[used]]
