"""Run somebody's model and leave it, and the random generators, as they were found."""

from __future__ import annotations

import copy
import random
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_SMALL = 1 << 20  # elements; a larger tensor that is no buffer is a cache of activations, not a counter
_CONTAINERS = (list, dict, set, deque)
_OWN_ATTRIBUTES = frozenset(vars(nn.Module()))  # of every module: parameters, submodules, hooks


@contextmanager
def guest(module: nn.Module, seed: int) -> Iterator[None]:
    """Run the body in eval mode, without gradients, with its own random numbers, and without a trace.

    On leaving, each submodule's training mode, buffers and plain attributes (counters, lists, cached tensors),
    and the random generators of torch, of the module's CUDA device, of numpy and of python are as before.

    Args:
        module: The module that the body runs.
        seed: Of the random numbers that the body sees: a model that draws masks or dropout even in eval mode
            draws the same ones each time.

    Example:
        >>> import torch
        >>> model = torch.nn.Dropout().train()
        >>> with guest(model, seed=0):
        ...     print(model.training)
        False
        >>> model.training
        True
    """
    submodules = list(module.modules())
    modes = [submodule.training for submodule in submodules]
    buffers = [_Buffers(submodule) for submodule in submodules]
    attributes = [_Attributes(submodule) for submodule in submodules]
    with torch.no_grad(), _own_randomness(_cuda_device(module), seed):
        try:
            for submodule in submodules:
                submodule.training = False
            yield
        finally:
            for submodule, mode in zip(submodules, modes, strict=True):
                submodule.training = mode
            for kept in buffers:
                kept.restore()
            for found in attributes:
                found.restore()


class _Buffers:
    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.found = [(name, x, None if x is None else x.detach().clone()) for name, x in module._buffers.items()]

    def restore(self) -> None:
        now = self.module._buffers
        for name in now.keys() - {name for name, _, _ in self.found}:
            del now[name]
        for name, x, value in self.found:
            now[name] = x
            _put_back(x, value)


class _Attributes:
    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.found = {
            name: (value, _copy(value)) for name, value in vars(module).items() if name not in _OWN_ATTRIBUTES
        }

    def restore(self) -> None:
        now = vars(self.module)
        for name in now.keys() - self.found.keys() - _OWN_ATTRIBUTES:
            del now[name]
        for name, (value, kept) in self.found.items():
            now[name] = value
            _put_back(value, kept)


def _copy(value: Any) -> Any:
    """A copy of what the body could change in place, else ``None``."""
    if type(value) is Tensor:
        return value.detach().clone() if value.numel() <= _SMALL else None
    return copy.copy(value) if type(value) in _CONTAINERS else None


def _put_back(value: Any, kept: Any) -> None:
    if kept is None:
        return
    if isinstance(value, Tensor):
        if not torch.equal(value, kept):
            value.copy_(kept)
    elif isinstance(value, (set, dict)):
        if value != kept:
            value.clear()
            value.update(kept)
    elif len(value) != len(kept) or any(a is not b for a, b in zip(value, kept, strict=True)):
        value.clear()
        value.extend(kept)


def _cuda_device(module: nn.Module) -> torch.device | None:
    return next((p.device for p in module.parameters() if p.is_cuda), None)


@contextmanager
def _own_randomness(cuda_device: torch.device | None, seed: int) -> Iterator[None]:
    # numpy's legacy generator is the one that models draw from.
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    generators = [torch.default_generator]
    if cuda_device is not None:
        generators.append(torch.cuda.default_generators[cuda_device.index])
    torch_states = [generator.get_state() for generator in generators]
    try:
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        for generator in generators:
            generator.manual_seed(seed)
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        for generator, state in zip(generators, torch_states, strict=True):
            generator.set_state(state)
