"""MIEstimate: a lower bound on mutual information with its error bar and its parts."""

from __future__ import annotations

from dataclasses import dataclass, field

from lightning_mi.estimator.group_scores import GroupScores


@dataclass(frozen=True)
class MIEstimate:
    """A lower bound on mutual information, held out, with its error bar. All in nats.

    Attributes:
        bound: ``entropy - cross_entropy``, never below 0 (mutual information is not).
        stderr: Standard error of the bound over groups and over the two fits, see
            :func:`lightning_mi.estimator.group_scores.clustered_stderr`. An interval is two of them, more with few
            groups (:func:`lightning_mi.estimator.group_scores.significance_factor`).
        entropy: H(c), the plug-in entropy of the clusters (or labels) on the scored rows.
        cross_entropy: E[-log q(c | z)] of the probe on rows that it has not seen, with q weighted by cluster so
            that its mean over these rows is each cluster's share (:mod:`lightning_mi.estimator.contrast`); the
            entropy itself if the probe does worse than the marginal.
        ceiling: log K, which no bound with K clusters (or classes) can exceed.
        num_clusters: K.
        active_clusters: How many of them occur among the scored rows (the mean of both halves, rounded).
        num_pairs: Number of rows, each of which was scored once.
        num_groups: Number of groups.
        scores: What each group adds to the bound, on the host, for :meth:`gain_over`; left out of ``repr`` and
            ``==``.

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

        The difference is taken group by group, over the groups that both estimates have scored. The difficulty of
        a group cancels, so two epochs can differ significantly although their error bars overlap. It is the
        difference before either bound is floored at 0 (after it, of contrastive bounds). It is significant beyond
        two standard errors, more with few groups
        (:func:`lightning_mi.estimator.group_scores.significance_factor`).

        Raises:
            ValueError: If fewer than 2 groups are in both, or an estimate does not hold its scores.

        Example:
            >>> import torch
            >>> from lightning_mi import mi_bound
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
