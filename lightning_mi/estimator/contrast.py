"""The contrast: what each scored row adds to the bound, log q(c | z) less the log of its mean over the rows."""

from __future__ import annotations

import torch
from torch import Tensor


def contrast(probabilities: Tensor, classes: Tensor) -> Tensor:
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

    Args:
        probabilities: ``(N, K)``, q of each class given each row.
        classes: ``(N,)`` int64 below K.

    Returns:
        ``(N,)`` float64, in nats.

    Source:
        Poole, Ozair, van den Oord, Alemi, Tucker, "On variational bounds of mutual information", ICML 2019, for
        the bound; Hampel, "The influence curve and its role in robust estimation", JASA 1974, for the second term.

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
    return hits.log() - mean.log()[classes] - (part.double() - 1)
