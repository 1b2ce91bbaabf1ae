"""The best epoch so far: small enough to travel in every checkpoint, and enough to compare another with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from lightning_mi.estimator import MIEstimate
from lightning_mi.estimator.group_scores import GroupScores

_MOST_GROUPS = 4096  # 17 bytes each: 70 KB in a checkpoint


@dataclass(frozen=True)
class BestEpoch:
    """The bound of an epoch, and what each group added to it.

    Of more than 4096 groups an even share is kept, and scores in float32: in memory just as in the checkpoint, so
    that a resumed run says the same.

    Attributes:
        bound: In nats.
        scores: Of the groups.

    Example:
        >>> import torch
        >>> from lightning_mi import mi_bound
        >>> z = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
        >>> best = BestEpoch.of(mi_bound(z, z, num_clusters=4))
        >>> gain, _ = BestEpoch.from_state(best.state()).gain_of(mi_bound(z, z, num_clusters=4))
        >>> abs(gain) < 1e-6
        True
    """

    bound: float
    scores: GroupScores

    @staticmethod
    def of(estimate: MIEstimate) -> BestEpoch:
        """Keep what is needed of ``estimate``, which :func:`lightning_mi.mi_bound` has made."""
        scores = estimate.scores
        assert scores is not None
        some = slice(None, None, -(-len(scores.groups) // _MOST_GROUPS))
        return BestEpoch(
            estimate.bound,
            GroupScores(
                groups=scores.groups[some].clone(),
                totals=scores.totals[some].float().double(),
                counts=scores.counts[some].clone(),
                halves=scores.halves[some].clone(),
            ),
        )

    def gain_of(self, estimate: MIEstimate) -> tuple[float, float]:
        """By how much ``estimate`` is above this epoch on the groups of both, and the standard error of that, in
        nats.

        Raises:
            ValueError: If fewer than 2 groups are in both.
        """
        assert estimate.scores is not None
        return estimate.scores.gain_over(self.scores)

    def state(self) -> dict[str, Any]:
        """Numbers and tensors only, for a checkpoint."""
        return {
            "bound": self.bound,
            "groups": self.scores.groups,
            "totals": self.scores.totals.float(),
            "counts": self.scores.counts.to(torch.int32),
            "halves": self.scores.halves.to(torch.int8),
        }

    @staticmethod
    def from_state(state: dict[str, Any]) -> BestEpoch:
        """What :meth:`state` was made from."""
        scores = GroupScores(
            state["groups"], state["totals"].double(), state["counts"].double(), state["halves"].long()
        )
        return BestEpoch(state["bound"], scores)
