"""Which cluster each row was in, for a later epoch's k-means to start from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Clusters:
    """The clusters of one estimate. On the host, 12 bytes a row.

    They are kept as members, not as centres: between two epochs a model may turn all of its embeddings, while
    what was together mostly stays together.

    Attributes:
        groups: ``(N,)`` int64, the group of each row.
        members: ``(N,)`` int32, the cluster of each row in the half that it was fitted in.
        num_clusters: K.
        seed: Of the split and the k-means.
    """

    groups: Tensor
    members: Tensor
    num_clusters: int
    seed: int

    def fits(self, groups: Tensor, num_clusters: int, seed: int) -> bool:
        """Whether rows of these ``groups`` ``(N,)`` on the host, in this order, fall into the same halves and are
        to be cut into as many clusters. Else rows that are scored now could have been fitted before.

        Example:
            >>> import torch
            >>> before = Clusters(torch.tensor([5, 7]), torch.tensor([0, 1], dtype=torch.int32), 2, seed=0)
            >>> before.fits(torch.tensor([5, 7]), 2, 0), before.fits(torch.tensor([5, 8]), 2, 0)
            (True, False)
        """
        return (num_clusters, seed) == (self.num_clusters, self.seed) and torch.equal(groups, self.groups)
