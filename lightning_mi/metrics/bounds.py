"""MIBound, LabeledMIBound and NullBound: torchmetrics metrics over the estimator."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lightning_mi.estimator import MIEstimate, labeled_mi_bound, mi_bound
from lightning_mi.estimator.checks import check_choice, check_positive_int, check_seed
from lightning_mi.estimator.registry import BOUNDS, PROBES, QUANTIZERS, BoundName, ProbeName, QuantizerName
from lightning_mi.estimator.shuffled_bound import null_bound
from lightning_mi.metrics.base import BoundMetric


class MIBound(BoundMetric):
    r"""Lower bound on the mutual information of paired embeddings, in nats, held out.

    .. math::
        I(Z_a; Z_b) \geq H(c) - \mathbb{E}[-\log q(c \mid z_a)], \qquad c = f(z_b)

    where :math:`f` is a k-means quantiser and :math:`q` a linear probe, each fitted to other groups than
    those that it is scored on. See :func:`lightning_mi.mi_bound`, which :meth:`compute` calls once on all
    pairs, so the number does not depend on how they were cut into updates.

    As input to ``update`` the metric accepts:

    - ``z_a`` (:class:`~torch.Tensor`): ``(B, D)`` floating-point, embeddings of the first segments.
    - ``z_b`` (:class:`~torch.Tensor`): ``(B, D')`` floating-point, embeddings of the second segments.
    - ``groups`` (:class:`~torch.Tensor`, optional): ``(B,)`` int64; rows of one group (an utterance, a
      speaker) never stand on both sides of the split. Without it each row is its own group.
    - ``keys`` (:class:`~torch.Tensor`, optional): ``(B,)`` int64, an identity of each pair. With it the order of
      the updates and the number of processes do not change the value either.

    As output of ``compute`` the metric returns:

    - ``mi_bound`` (:class:`~torch.Tensor`): 0-d float32, the bound in nats. :meth:`estimate` gives it with
      its standard error and its parts.

    All pairs are held until ``reset``: ``(D + D') * 4`` bytes each in float32.

    Args:
        num_clusters: K of the k-means, at most the number of pairs in one half.
        seed: Seed of the split and the k-means.
        quantizer: As that of :func:`lightning_mi.mi_bound`.
        probe: As that of :func:`lightning_mi.mi_bound`.
        bound: As that of :func:`lightning_mi.mi_bound`.
        kwargs: Those of :class:`torchmetrics.Metric`.

    Raises:
        TypeError: If an argument has the wrong type or an embedding is not floating-point.
        ValueError: If shapes disagree; in ``compute``, if :func:`lightning_mi.mi_bound` raises it.

    Source:
        Liu, Yeh, Glass, ICASSP 2024, arXiv:2401.08833.

    Example:
        >>> import torch
        >>> generator = torch.Generator().manual_seed(0)
        >>> metric = MIBound(num_clusters=8)
        >>> for _ in range(10):
        ...     z_a = torch.randn(100, 4, generator=generator)
        ...     metric.update(z_a, z_a + torch.randn(100, 4, generator=generator))
        >>> bound = metric.compute()
        >>> 0.2 < bound < 4 * 0.5 * torch.tensor(2.0).log()
        tensor(True)
        >>> metric.estimate().num_pairs
        1000
    """

    _float_states = ("z_a", "z_b")

    z_a: list[Tensor]
    z_b: list[Tensor]

    def __init__(
        self,
        num_clusters: int = 128,
        seed: int = 0,
        quantizer: QuantizerName = "kmeans",
        probe: ProbeName = "linear",
        bound: BoundName = "clusters",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_positive_int("num_clusters", num_clusters)
        check_seed(seed)
        check_choice("quantizer", quantizer, QUANTIZERS)
        check_choice("probe", probe, PROBES)
        check_choice("bound", bound, BOUNDS)
        self.num_clusters = num_clusters
        self.seed = seed
        self.quantizer: QuantizerName = quantizer
        self.probe: ProbeName = probe
        self.bound: BoundName = bound

    def update(self, z_a: Tensor, z_b: Tensor, groups: Tensor | None = None, keys: Tensor | None = None) -> None:
        """Add pairs: ``z_a`` ``(B, D)``, ``z_b`` ``(B, D')`` and, optionally, ``groups`` and ``keys``, ``(B,)``
        int64 each."""
        self._add({"z_a": z_a, "z_b": z_b}, {"groups": groups, "keys": keys})

    def _bound(self, **rows: Tensor) -> MIEstimate:
        return mi_bound(
            rows["z_a"],
            rows["z_b"],
            self.num_clusters,
            None if self._nameless else rows["groups"],  # so that copies are one group
            self.seed,
            self.quantizer,
            self.probe,
            self.bound,
        )


class LabeledMIBound(BoundMetric):
    r"""Lower bound on the mutual information of embeddings and labels, in nats, held out.

    .. math::
        I(Z; Y) \geq H(y) - \mathbb{E}[-\log q(y \mid z)]

    where :math:`q` is a linear probe, fitted to other groups than those that it is scored on. See
    :func:`lightning_mi.labeled_mi_bound`, which :meth:`compute` calls once on all rows.

    As input to ``update`` the metric accepts:

    - ``z`` (:class:`~torch.Tensor`): ``(B, D)`` floating-point embeddings.
    - ``labels`` (:class:`~torch.Tensor`): ``(B,)`` integer class labels; -1 is a row without a label.
    - ``groups`` (:class:`~torch.Tensor`, optional): ``(B,)`` int64; rows of one group (the utterance or the
      speaker of a frame) never stand on both sides of the split. Without it each row is its own group.
    - ``keys`` (:class:`~torch.Tensor`, optional): ``(B,)`` int64, an identity of each row. With it the order of
      the updates and the number of processes do not change the value.

    As output of ``compute`` the metric returns:

    - ``labeled_mi_bound`` (:class:`~torch.Tensor`): 0-d float32, the bound in nats. :meth:`estimate` gives it
      with its standard error and its parts.

    All rows are held until ``reset``: ``D * 4`` bytes each in float32.

    Args:
        seed: Seed of the split.
        probe: As that of :func:`lightning_mi.labeled_mi_bound`.
        kwargs: Those of :class:`torchmetrics.Metric`.

    Raises:
        TypeError: If an argument has the wrong type or the embeddings are not floating-point.
        ValueError: If shapes disagree; in ``compute``, if :func:`lightning_mi.labeled_mi_bound` raises it.

    Source:
        Liu, Yeh, Glass, ICASSP 2024, arXiv:2401.08833.

    Example:
        >>> import torch
        >>> labels = torch.arange(600) % 3
        >>> metric = LabeledMIBound()
        >>> metric.update(torch.nn.functional.one_hot(labels).float(), labels)
        >>> round(metric.compute().item(), 1)  # log 3 = 1.0986
        1.1
    """

    _float_states = ("z",)
    _int_states = ("labels", "groups", "keys")

    z: list[Tensor]
    labels: list[Tensor]

    def __init__(self, seed: int = 0, probe: ProbeName = "linear", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_seed(seed)
        check_choice("probe", probe, PROBES)
        self.seed = seed
        self.probe: ProbeName = probe

    def update(self, z: Tensor, labels: Tensor, groups: Tensor | None = None, keys: Tensor | None = None) -> None:
        """Add rows: ``z`` ``(B, D)``, ``labels`` ``(B,)`` integers and, optionally, ``groups`` and ``keys``,
        ``(B,)`` int64 each."""
        self._add({"z": z}, {"labels": labels, "groups": groups, "keys": keys})

    def _bound(self, **rows: Tensor) -> MIEstimate:
        return labeled_mi_bound(**rows, seed=self.seed, probe=self.probe)


class NullBound(BoundMetric):
    """Bound of pairs shuffled among clusters of near-duplicates, in nats.

    See :func:`lightning_mi.estimator.shuffled_bound.null_bound`, which :meth:`compute` calls once on all pairs.

    As input to ``update`` the metric accepts ``z_a`` and ``z_b`` as :class:`MIBound`, and

    - ``near_duplicates`` (:class:`~torch.Tensor`): ``(B,)`` int64; one id for each cluster of near-duplicates.
    - ``groups``, ``keys`` (:class:`~torch.Tensor`, optional): as those of :class:`MIBound`.

    As output of ``compute`` the metric returns:

    - ``null_bound`` (:class:`~torch.Tensor`): 0-d float32, in nats; 0 within its error unless the split leaks.

    Args:
        num_clusters: K of the k-means, at most the number of rows in one half.
        seed: Seed of the shuffle, the split and the k-means.
        kwargs: Those of :class:`torchmetrics.Metric`.

    Raises:
        TypeError: If an argument has the wrong type or an embedding is not floating-point.
        ValueError: If shapes disagree; in ``compute``, if :func:`null_bound` raises it.

    Example:
        >>> import torch
        >>> z = torch.randn(400, 8, generator=torch.Generator().manual_seed(0))
        >>> metric = NullBound(num_clusters=8)
        >>> for _ in range(2):  # every recording twice
        ...     metric.update(z, z, near_duplicates=torch.arange(400))
        >>> metric.compute() > 0.5
        tensor(True)
    """

    _float_states = ("z_a", "z_b")
    _int_states = ("near_duplicates", "groups", "keys")

    def __init__(self, num_clusters: int = 128, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_positive_int("num_clusters", num_clusters)
        check_seed(seed)
        self.num_clusters = num_clusters
        self.seed = seed

    def update(
        self,
        z_a: Tensor,
        z_b: Tensor,
        near_duplicates: Tensor,
        groups: Tensor | None = None,
        keys: Tensor | None = None,
    ) -> None:
        """Add pairs: ``z_a`` ``(B, D)``, ``z_b`` ``(B, D')``, ``near_duplicates`` and, optionally, ``groups`` and
        ``keys``, ``(B,)`` int64 each."""
        self._add({"z_a": z_a, "z_b": z_b}, {"near_duplicates": near_duplicates, "groups": groups, "keys": keys})

    def _bound(self, **rows: Tensor) -> MIEstimate:
        return null_bound(**rows, num_clusters=self.num_clusters, seed=self.seed)
