"""The bound as a torchmetrics metric: it holds the pairs, gathers them and asks the estimator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning_utilities import apply_to_collection
from torch import Tensor
from torch.nn import Module
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat
from torchmetrics.utilities.distributed import gather_all_tensors

from lightning_mi.estimator import MIEstimate, mi_bound
from lightning_mi.estimator.checks import (
    check_choice,
    check_embeddings,
    check_int,
    check_integer_vector,
    check_positive_int,
    check_same_rows,
)
from lightning_mi.estimator.probe import PROBES
from lightning_mi.estimator.quantizer import QUANTIZERS
from lightning_mi.hashing import mix

_NONE = torch.iinfo(torch.int64).min  # stands in the states for "a group of its own" and "no key"

_NUMBERS = ("groups", "keys")


class MIBound(Metric):
    r"""Lower bound on the mutual information of paired embeddings, in nats, held out.

    .. math::
        I(Z_a; Z_b) \geq H(c) - \mathbb{E}[-\log q(c \mid z_a)], \qquad c = f(z_b)

    where :math:`f` is a k-means quantiser and :math:`q` a linear probe, each fitted to other groups than
    those that it is scored on. See :func:`lightning_mi.mi_bound`, which :meth:`compute` calls once on all
    pairs: how they were cut into updates does not change the number.

    As input to ``update`` the metric accepts:

    - ``z_a`` (:class:`~torch.Tensor`): ``(B, D)`` floating-point, embeddings of the first sections.
    - ``z_b`` (:class:`~torch.Tensor`): ``(B, D')`` floating-point, embeddings of the second sections.
    - ``groups`` (:class:`~torch.Tensor`, optional): ``(B,)`` int64; rows of one group (an utterance, a
      speaker) never stand on both sides of the split. Without it each row is its own group.
    - ``keys`` (:class:`~torch.Tensor`, optional): ``(B,)`` int64, what tells rows apart (a number of the pair).
      With it the order of the updates and the number of processes do not change the value either.

    As output of ``compute`` the metric returns:

    - ``mi_bound`` (:class:`~torch.Tensor`): 0-d float32, the bound in nats. :meth:`estimate` gives it with
      its standard error and its parts.

    All pairs are held until ``reset``: ``(D + D') * 4`` bytes each in float32.

    Args:
        num_clusters: K of the k-means, at most the number of pairs in one half.
        seed: Of the split and the k-means.
        quantizer: As that of :func:`lightning_mi.mi_bound`.
        probe: As that of :func:`lightning_mi.mi_bound`.
        kwargs: Those of :class:`torchmetrics.Metric`.

    Raises:
        TypeError: If an argument has the wrong type or an embedding is not floating-point.
        ValueError: If shapes disagree; in ``compute``, for what :func:`lightning_mi.mi_bound` refuses.

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

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0

    z_a: list[Tensor]
    z_b: list[Tensor]
    groups: list[Tensor]
    keys: list[Tensor]

    def __init__(
        self,
        num_clusters: int = 128,
        seed: int = 0,
        quantizer: str = "kmeans",
        probe: str = "linear",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_positive_int("num_clusters", num_clusters)
        check_int("seed", seed)
        check_choice("quantizer", quantizer, QUANTIZERS)
        check_choice("probe", probe, PROBES)
        self.num_clusters = num_clusters
        self.seed = seed
        self.quantizer = quantizer
        self.probe = probe
        self._estimate: MIEstimate | None = None
        for state in ("z_a", "z_b", *_NUMBERS):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(self, z_a: Tensor, z_b: Tensor, groups: Tensor | None = None, keys: Tensor | None = None) -> None:
        """Add pairs: ``z_a`` ``(B, D)``, ``z_b`` ``(B, D')`` and, optionally, ``groups`` and ``keys``, ``(B,)``
        int64 each."""
        check_embeddings("z_a", z_a)
        check_embeddings("z_b", z_b)
        check_same_rows("z_b", z_b.shape[0], "z_a", z_a.shape[0])
        numbers = {}
        for name, value in zip(_NUMBERS, (groups, keys), strict=True):
            if value is None:
                value = torch.full((z_a.shape[0],), _NONE, device=z_a.device)
            check_integer_vector(name, value, z_a.shape[0])
            numbers[name] = value.detach().to(torch.int64)
        self.z_a.append(z_a.detach())
        self.z_b.append(z_b.detach())
        self.groups.append(numbers["groups"])
        self.keys.append(numbers["keys"])

    def compute(self) -> Tensor:
        """The bound on all pairs so far, from all processes: a 0-d float32 tensor, in nats."""
        if not len(self.z_a):  # a list of updates, or one tensor when the processes are synchronised
            raise ValueError("MIBound has seen no pairs: call `update(z_a, z_b)` before `compute()`.")
        groups, keys = dim_zero_cat(self.groups), dim_zero_cat(self.keys)
        order = keys.argsort(stable=True)
        rows = torch.arange(len(groups), device=groups.device)
        names = torch.where(keys == _NONE, rows, keys)
        own = groups == _NONE
        groups = names if bool(own.all()) else torch.where(own, mix(names), groups)
        self._estimate = mi_bound(
            _reorder(dim_zero_cat(self.z_a), order),
            _reorder(dim_zero_cat(self.z_b), order),
            num_clusters=self.num_clusters,
            groups=_reorder(groups, order),
            seed=self.seed,
            quantizer=self.quantizer,
            probe=self.probe,
        )
        return torch.tensor(self._estimate.bound, device=self.device)

    def estimate(self) -> MIEstimate:
        """:meth:`compute`, with the standard error and the parts of the bound."""
        self.compute()
        assert self._estimate is not None
        return self._estimate

    def reset(self) -> None:
        """Forget all pairs."""
        super().reset()
        self._estimate = None

    def plot(self, val: Tensor | Sequence[Tensor] | None = None, ax: Any = None) -> Any:
        """Plot one value, or one per epoch, of the bound: see :meth:`torchmetrics.Metric.plot`.

        Returns:
            A matplotlib figure and axes.

        Raises:
            ModuleNotFoundError: If matplotlib is not installed.
        """
        return self._plot(val, ax)

    def _apply(self, fn: Callable[..., Any], exclude_state: Sequence[str] = ()) -> Module:
        # Groups and keys are 64-bit hashes: they change their device with the metric, and never their dtype.
        super()._apply(fn, exclude_state=[*exclude_state, *_NUMBERS])
        for name in _NUMBERS:
            setattr(self, name, apply_to_collection(getattr(self, name), Tensor, lambda x: x.to(self.device)))
        return self

    def _sync_dist(
        self, dist_sync_fn: Callable[..., list[Tensor]] = gather_all_tensors, process_group: Any = None
    ) -> None:
        # A process without pairs must offer empty tensors of the dimensions and dtypes that the others have.
        kinds = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
        group = process_group or self.process_group
        for state in (self.z_a, self.z_b):
            own = [state[0].shape[1], kinds.index(state[0].dtype)] if len(state) else [0, 0]
            gathered = dist_sync_fn(torch.tensor(own, device=self.device), group=group)
            size, kind = torch.stack(list(gathered)).amax(dim=0).tolist()
            if not len(state):
                state.append(torch.empty(0, size, dtype=kinds[kind], device=self.device))
        for name in _NUMBERS:
            if not len(getattr(self, name)):
                getattr(self, name).append(torch.empty(0, dtype=torch.int64, device=self.device))
        super()._sync_dist(dist_sync_fn, process_group)


def _reorder(x: Tensor, order: Tensor) -> Tensor:
    in_order = torch.arange(len(order), device=order.device)
    return x if torch.equal(order, in_order) else x[order.to(x.device)]
