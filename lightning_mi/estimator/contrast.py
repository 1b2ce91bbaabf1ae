"""The contrast: what each scored row adds to the bound, log q(c | z) less the log of its mean over the rows."""

from __future__ import annotations

import torch
from torch import Tensor

_FEW_GROUPS = 256  # with more, what the jackknife adds to the influence is below 1 / 256 of it


def contrast(probabilities: Tensor, classes: Tensor, groups: Tensor | None = None) -> Tensor:
    """Scores of rows, whose mean is a lower bound on the mutual information of ``z`` and ``c``.

    With q a probe that has seen none of the N rows, the bound is

        mean_i [ log q(c_i | z_i) - log qbar(c_i) ],    qbar(c) = mean_j q(c | z_j)

    the multi-sample contrastive bound with q as its critic. For independent rows its expectation is at or below
    I(Z; C). If rows of a group depend on one another, it is at or below I(C; all rows of the group), and at or
    below I(Z; C) in the limit of many groups. By Gibbs' inequality it is at least the plug-in H(c) less the
    cross-entropy of q on the same rows (equal if the mean of q is the share of each class), and by Jensen's at
    most that H(c). It is 0 if q does not depend on z.

    A row takes part in qbar too, so its score has a second term, whose mean is 0:

        s_i = log q(c_i | z_i) - log qbar(c_i) - (sum_c share(c) q(c | z_i) / qbar(c) - 1)

    The s_i are, less their mean, the influence of each row on the bound: sums over groups give its standard error.
    A group among few moves qbar by more than this first order says. With ``groups``, the rows of up to 256 groups
    get the group's pseudo-value of the delete-one-group jackknife in its place, N b - (N - n) b(without it), whose
    sums spread as the bound does when a whole group comes or goes. The pseudo-values are shifted to keep the mean.

    Args:
        probabilities: ``(N, K)``, q of each class given each row.
        classes: ``(N,)`` int64 below K.
        groups: ``(N,)`` integers; rows of one group stand together. ``None``: each row is its own group, and there
            are many.

    Returns:
        ``(N,)`` float64, in nats.

    Source:
        Poole, Ozair, van den Oord, Alemi, Tucker, "On variational bounds of mutual information", ICML 2019, for
        the bound; Hampel, "The influence curve and its role in robust estimation", JASA 1974, for the second term;
        Miller, "The jackknife: a review", Biometrika 1974, for the pseudo-values.

    Example:
        >>> import torch
        >>> classes = torch.tensor([0, 1, 0, 1])
        >>> knows = 0.8 * torch.eye(2)[classes] + 0.1
        >>> contrast(knows, classes).mean().item()  # H(c) - CE is log 2 + log 0.9
        0.5877...
        >>> contrast(torch.full((4, 2), 0.5), classes).tolist()
        [0.0, 0.0, 0.0, 0.0]
    """
    mean = probabilities.mean(dim=0, dtype=torch.float64)
    share = torch.bincount(classes, minlength=len(mean)).double() / len(classes)
    hits = probabilities.gather(1, classes[:, None])[:, 0].double()
    part = probabilities @ (share / mean).to(probabilities.dtype)
    scores = hits.log() - mean.log()[classes] - (part.double() - 1)
    if groups is None:
        return scores
    _, sizes = groups.unique_consecutive(return_counts=True)
    if not 1 < len(sizes) <= _FEW_GROUPS:
        return scores
    member_of = torch.repeat_interleave(torch.arange(len(sizes), device=groups.device), sizes)
    pseudo = _pseudo_values(probabilities, classes, hits.log(), member_of, sizes)
    return scores.mean() + ((pseudo - pseudo.sum() / len(classes) * sizes) / sizes)[member_of]


def _pseudo_values(
    probabilities: Tensor, classes: Tensor, log_hits: Tensor, member_of: Tensor, sizes: Tensor
) -> Tensor:
    """``(G,)`` float64, pseudo-values of the groups: N b less (N - n) b of the rows outside of the group."""
    num_groups, num_classes = len(sizes), probabilities.shape[1]
    sums = probabilities.new_zeros(num_groups, num_classes, dtype=torch.float64)
    for number, rows in enumerate(probabilities.split(sizes.tolist())):
        sums[number] = rows.sum(dim=0, dtype=torch.float64)
    cells = torch.bincount(member_of * num_classes + classes, minlength=num_groups * num_classes)
    counts = cells.view(num_groups, num_classes).double()
    hits = torch.zeros_like(sums[:, 0]).index_add_(0, member_of, log_hits)

    def total(hits: Tensor, counts: Tensor, sums: Tensor, num_rows: Tensor | int) -> Tensor:
        return hits - torch.xlogy(counts, sums).sum(dim=-1) + torch.xlogy(counts.sum(dim=-1), num_rows)

    whole = total(hits.sum(), counts.sum(dim=0), sums.sum(dim=0), len(classes))
    outside = len(classes) - sizes
    return whole - total(hits.sum() - hits, counts.sum(dim=0) - counts, sums.sum(dim=0) - sums, outside.double())
