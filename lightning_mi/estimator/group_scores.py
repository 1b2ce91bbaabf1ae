"""GroupScores: scores of a bound by group, for cluster-robust standard errors and paired differences."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class GroupScores:
    """Scores of the groups, on the host. The mean of all rows' scores is the bound, before its floor at 0.

    Attributes:
        groups: ``(G,)`` int64, names of the groups, each once.
        totals: ``(G,)`` float64, sum of the scores of a group's rows, in nats.
        counts: ``(G,)`` float64, number of a group's rows.
        halves: ``(G,)`` int64, 0 or 1: the half that the group was scored in.
    """

    groups: Tensor
    totals: Tensor
    counts: Tensor
    halves: Tensor

    @staticmethod
    def of_rows(groups: Tensor, scores: Tensor, middle: int) -> GroupScores:
        """Add up ``scores`` ``(N,)`` of rows whose ``groups`` ``(N,)`` stand together; a new half begins at row
        ``middle``."""
        names, sizes = groups.cpu().unique_consecutive(return_counts=True)
        member_of = torch.repeat_interleave(torch.arange(len(names), device="cpu"), sizes)
        totals = torch.zeros(len(names), dtype=torch.float64, device="cpu").index_add_(
            0, member_of, scores.double().cpu()
        )
        halves = (sizes.cumsum(dim=0) > middle).long()
        return GroupScores(names, totals, sizes.double(), halves)

    def compact(self, max_groups: int = 4096) -> GroupScores:
        """Every n-th group, at most ``max_groups`` of them, with ``totals`` rounded to float32.

        :meth:`state` of the result takes 17 bytes a group, and :meth:`from_state` restores it exactly.

        Example:
            >>> import torch
            >>> scores = GroupScores.of_rows(torch.arange(10), torch.ones(10), middle=5)
            >>> scores.compact(max_groups=4).groups.tolist()
            [0, 3, 6, 9]
        """
        some = slice(None, None, -(-len(self.groups) // max_groups))
        return GroupScores(
            groups=self.groups[some].clone(),
            totals=self.totals[some].float().double(),
            counts=self.counts[some].clone(),
            halves=self.halves[some].clone(),
        )

    def state(self) -> dict[str, Any]:
        """Tensors for a checkpoint: ``groups`` int64, ``totals`` float32, ``counts`` int32, ``halves`` int8."""
        return {
            "groups": self.groups,
            "totals": self.totals.float(),
            "counts": self.counts.to(torch.int32),
            "halves": self.halves.to(torch.int8),
        }

    @staticmethod
    def from_state(state: Mapping[str, Any]) -> GroupScores:
        """The inverse of :meth:`state` for compact scores; other keys of ``state`` are ignored."""
        return GroupScores(
            state["groups"], state["totals"].double(), state["counts"].double(), state["halves"].long()
        )

    def stderr(self) -> float:
        """Standard error of the mean score, see :func:`clustered_stderr`."""
        means, influence = self._influence()
        return clustered_stderr(influence, means, _by_half(self.counts, self.halves))

    def stderr_of_scoring(self) -> float:
        """Standard error of the mean score given the two fits, over groups alone.

        It serves a test of whether these fits score above 0, and leaves out the variance of the fits themselves.
        """
        return standard_error(self._influence()[1])

    def _influence(self) -> tuple[Tensor, Tensor]:
        means = _by_half(self.totals, self.halves) / _by_half(self.counts, self.halves)
        return means, (self.totals - means[self.halves] * self.counts) / self.counts.sum()

    def gain_over(self, other: GroupScores) -> tuple[float, float]:
        """Difference of the mean scores over the groups in both, and its standard error, in nats.

        Raises:
            ValueError: If fewer than 2 groups are in both.
        """
        mine, theirs = self._named(other.groups), other._named(self.groups)
        if len(mine.groups) < 2:
            raise ValueError(
                f"A gain needs at least 2 groups that are in both estimates, got {len(mine.groups)} of "
                f"{len(self.groups)} and {len(other.groups)}. Give both the same pairs, with the same `groups`."
            )
        influence = torch.zeros_like(mine.totals)
        means, sizes = torch.zeros(2, dtype=torch.float64, device="cpu"), _by_half(mine.counts, mine.halves)
        gain = 0.0
        for scores, sign in ((mine, 1), (theirs, -1)):
            counts = _by_half(scores.counts, mine.halves)
            mean = _by_half(scores.totals, mine.halves) / counts.clamp(min=1)
            influence += sign * (scores.totals - mean[mine.halves] * scores.counts) / scores.counts.sum()
            means += sign * mean
            gain += sign * float(scores.totals.sum() / scores.counts.sum())
        return gain, clustered_stderr(influence, means, sizes)

    def floored(self) -> GroupScores:
        """Scores of 0 if their mean is below 0, as a bound that is floored there; else these."""
        if float(self.totals.sum()) >= 0:
            return self
        return GroupScores(self.groups, torch.zeros_like(self.totals), self.counts, self.halves)

    def minus(self, other: GroupScores) -> GroupScores:
        """Scores whose mean is :meth:`gain_over`, of two estimates of the same rows.

        Raises:
            ValueError: If the groups or their numbers of rows differ.

        Example:
            >>> import torch
            >>> ones = GroupScores.of_rows(torch.arange(10), torch.ones(10), middle=5)
            >>> ones.minus(ones).totals.abs().max().item()
            0.0
        """
        mine, theirs = self._named(other.groups), other._named(self.groups)
        if len(mine.groups) < len(self.groups) or not torch.equal(mine.counts, theirs.counts):
            raise ValueError(
                f"`other` must be of the same rows, got {len(other.groups)} groups beside {len(self.groups)}, "
                f"{len(mine.groups)} of them in both."
            )
        return GroupScores(mine.groups, mine.totals - theirs.totals, mine.counts, mine.halves)

    def _named(self, names: Tensor) -> GroupScores:
        """The scores of the groups that are among ``names``, sorted by name."""
        order = self.groups.argsort()
        order = order[torch.isin(self.groups[order], names)]
        return GroupScores(self.groups[order], self.totals[order], self.counts[order], self.halves[order])


def clustered_stderr(influence: Tensor, means: Tensor, sizes: Tensor) -> float:
    """Cluster-robust standard error of a mean over both halves, whose rows depend within a group.

    The variance between groups ignores the variance of the fits. Each half has a fit of its own, so the error is
    at least the one that the difference of the two halves implies.

    Args:
        influence: ``(G,)`` float64, what each group adds to the mean less what an average one adds.
        means: ``(2,)`` float64, mean of each half.
        sizes: ``(2,)`` float64, number of rows of each half; 0 if there are none.

    Source:
        Liang and Zeger, "Longitudinal data analysis using generalized linear models", Biometrika 1986.
    """
    within = standard_error(influence)
    if bool((sizes == 0).any()):
        return within
    between = (sizes / sizes.sum()).square().sum() * (means[0] - means[1]).square() / 2
    return max(within, float(between.sqrt()))


def standard_error(influence: Tensor) -> float:
    """Standard error of a mean from what each group adds to it less what an average one adds, ``(G,)`` float64."""
    return math.sqrt(len(influence) / (len(influence) - 1) * float(influence.square().sum()))


def _by_half(values: Tensor, halves: Tensor) -> Tensor:
    return torch.zeros(2, dtype=torch.float64, device="cpu").index_add_(0, halves, values.double())
