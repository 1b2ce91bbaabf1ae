"""BoundMetric: base class of the metrics, which stores rows, gathers them in the order of keys and estimates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from lightning_utilities import apply_to_collection
from torch import Tensor
from torch.nn import Module
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat
from torchmetrics.utilities.distributed import gather_all_tensors
from torchmetrics.utilities.prints import rank_zero_warn

from lightning_mi.estimator import MIEstimate
from lightning_mi.estimator.checks import check_embeddings, check_integer_vector, check_same_rows
from lightning_mi.hashing import mix

_MISSING = torch.iinfo(torch.int64).min  # in the states, "a group of its own" and "no key"
_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


class BoundMetric(Metric):
    """Base class of :class:`lightning_mi.MIBound`, :class:`lightning_mi.LabeledMIBound` and
    :class:`lightning_mi.metrics.bounds.NullBound`.

    A subclass names its states in ``_float_states`` (embeddings ``(N, D)``) and ``_int_states`` (``(N,)`` int64),
    calls :meth:`_add` in ``update`` and makes the estimate in :meth:`_bound`. States are lists of the tensors of
    each update, and by default they are not saved in checkpoints.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0

    _float_states: ClassVar[tuple[str, ...]]
    _int_states: ClassVar[tuple[str, ...]] = ("groups", "keys")

    groups: list[Tensor]
    keys: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._estimate: MIEstimate | None = None
        self._is_of_a_batch = self._has_warned = False
        self._nameless = True  # whether rows have neither groups nor keys
        for state in (*self._float_states, *self._int_states):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def _bound(self, **rows: Tensor) -> MIEstimate:
        """The estimate from all rows; the arguments are the states except ``keys``."""
        raise NotImplementedError

    def _add(self, embeddings: dict[str, Tensor], numbers: dict[str, Tensor | None]) -> None:
        """Check all arguments of an update, then append them to the states of the same names."""
        first, *others = embeddings
        for name, z in embeddings.items():
            check_embeddings(name, z)
        num_rows = embeddings[first].shape[0]
        for name in others:
            check_same_rows(name, embeddings[name].shape[0], first, num_rows)
        checked = {}
        for name, value in numbers.items():
            if value is None:
                value = torch.full((num_rows,), _MISSING, device=embeddings[first].device)
            check_integer_vector(name, value, num_rows)
            checked[name] = value.detach().to(torch.int64)
        for name, z in embeddings.items():
            getattr(self, name).append(z.detach())
        for name, value in checked.items():
            getattr(self, name).append(value)

    def compute(self) -> Tensor:
        """The bound on all rows so far, from all processes: a 0-d float32 tensor, in nats.

        Raises:
            ValueError: If there are no rows, or the estimator raises it.
        """
        columns = [name for name in (*self._float_states, *self._int_states) if name not in ("groups", "keys")]
        if not len(self.groups):  # a list of updates, or one tensor when the processes are synchronised
            raise ValueError(
                f"{type(self).__name__} has seen no rows: call `update({', '.join(columns)})` before `compute()`."
            )
        groups, keys = dim_zero_cat(self.groups), dim_zero_cat(self.keys)
        order = keys.argsort(stable=True)
        rows = torch.arange(len(groups), device=groups.device)
        names = torch.where(keys == _MISSING, rows, keys)
        own = groups == _MISSING
        groups = names if bool(own.all()) else torch.where(own, mix(names), groups)
        states = {name: dim_zero_cat(getattr(self, name)) for name in columns}
        if not torch.equal(order, rows):
            states = {name: state[order.to(state.device)] for name, state in states.items()}
            groups = groups[order]
        self._nameless = bool(own.all()) and bool((keys == _MISSING).all())
        try:
            self._estimate = self._bound(**states, groups=groups)
        except ValueError as error:
            finite = all(bool(torch.isfinite(states[name]).all()) for name in self._float_states)
            if not (self._is_of_a_batch and finite):
                raise
            self._warn_of_a_small_batch(error)
            return torch.tensor(torch.nan, dtype=torch.float32, device=self.device)
        return torch.tensor(self._estimate.bound, dtype=torch.float32, device=self.device)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Add rows as ``update`` does: the bound on these rows alone, a 0-d float32 tensor in nats.

        It is nan, with one warning, if they are too few for it: the last batch of an epoch may be small.
        """
        self._is_of_a_batch = True
        try:
            value: Tensor = super().forward(*args, **kwargs)
        finally:
            self._is_of_a_batch = False
        return value

    def _warn_of_a_small_batch(self, error: ValueError) -> None:
        if not self._has_warned:
            self._has_warned = True
            rank_zero_warn(
                f"{type(self).__name__} is nan for a batch, whose rows are kept for `compute()`: {error} The "
                "bound of a batch has few rows and is low; call `update()` to only add them."
            )

    def estimate(self) -> MIEstimate:
        """:meth:`compute`, with the standard error and the parts of the bound."""
        self.compute()
        assert self._estimate is not None
        return self._estimate

    def reset(self) -> None:
        """Remove all rows."""
        super().reset()
        self._estimate = None

    def plot(self, val: Tensor | Sequence[Tensor] | None = None, ax: Any = None) -> Any:
        """Plot one value of the bound, or one for each epoch, see :meth:`torchmetrics.Metric.plot`.

        Args:
            val: One value of :meth:`compute`, or several; ``None`` calls it.
            ax: Matplotlib axes to draw on; ``None`` makes a figure.

        Returns:
            A matplotlib figure and axes.

        Raises:
            ModuleNotFoundError: If matplotlib is not installed.
        """
        return self._plot(val, ax)

    def _apply(self, fn: Callable[..., Any], exclude_state: Sequence[str] = ()) -> Module:
        # Groups and keys are 64-bit hashes: they move with the metric to a device, but keep their dtype.
        super()._apply(fn, exclude_state=[*exclude_state, *self._int_states])
        for name in self._int_states:
            setattr(self, name, apply_to_collection(getattr(self, name), Tensor, lambda x: x.to(self.device)))
        return self

    def _sync_dist(
        self, dist_sync_fn: Callable[..., list[Tensor]] = gather_all_tensors, process_group: Any = None
    ) -> None:
        # A process without rows must gather empty tensors of the dimensions and dtypes of the others.
        group = process_group or self.process_group
        for name in self._float_states:
            state = getattr(self, name)
            own = [state[0].shape[1], _FLOATS.index(state[0].dtype)] if len(state) else [0, 0]
            gathered = dist_sync_fn(torch.tensor(own, device=self.device), group=group)
            size, kind = torch.stack(list(gathered)).amax(dim=0).tolist()
            if not len(state):
                state.append(torch.empty(0, size, dtype=_FLOATS[kind], device=self.device))
        for name in self._int_states:
            if not len(getattr(self, name)):
                getattr(self, name).append(torch.empty(0, dtype=torch.int64, device=self.device))
        super()._sync_dist(dist_sync_fn, process_group)
