"""OwnRandomness: every random generator that a model may draw from, seeded for a while and put back."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

Generator = Any  # of torch, numpy or python


class OwnRandomness:
    """Seeds random generators, tells whether they have been drawn from, and puts them back.

    Args:
        generators: :class:`torch.Generator`, :class:`numpy.random.Generator`, :class:`numpy.random.RandomState`,
            :class:`random.Random`, or the modules ``random`` and ``numpy.random``, whose functions draw from a
            generator of their own.
        seed: Seed of each.

    Example:
        >>> import torch
        >>> generator = torch.Generator().manual_seed(1)
        >>> before = generator.get_state()
        >>> randomness = OwnRandomness([generator], seed=0)
        >>> with randomness.seeded():
        ...     randomness.was_drawn_from(), torch.rand(1, generator=generator).item(), randomness.was_drawn_from()
        (False, 0.49625658988952637, True)
        >>> torch.equal(generator.get_state(), before)
        True
    """

    def __init__(self, generators: Iterable[Generator], seed: int) -> None:
        self._generators = list(generators)
        self._seed = seed
        self._seeded: list[Any] = []

    @contextmanager
    def seeded(self) -> Iterator[None]:
        """Seed the generators, and restore their states at the end."""
        states = [_state(generator) for generator in self._generators]
        try:
            for generator in self._generators:
                _reseed(generator, self._seed)
            self._seeded = [_state(generator) for generator in self._generators]
            yield
        finally:
            for generator, state in zip(self._generators, states, strict=True):
                _restore(generator, state)

    def was_drawn_from(self) -> bool:
        """Whether any of the generators has been drawn from or reseeded since they were seeded."""
        states = map(_state, self._generators)
        return not all(_same(now, then) for now, then in zip(states, self._seeded, strict=True))


def global_generators(cuda_devices: Iterable[torch.device]) -> list[Generator]:
    """Those of torch on the host and on the devices, of numpy (the legacy one, which models use) and of python."""
    on_devices = [torch.cuda.default_generators[device.index] for device in cuda_devices]
    return [random, np.random, torch.default_generator, *on_devices]


def drawn_from(generators: Iterable[Generator]) -> Callable[[], bool]:
    """A function that tells whether any of the generators has been drawn from since this call.

    Example:
        >>> generator = torch.Generator()
        >>> has_drawn = drawn_from([generator])
        >>> has_drawn(), torch.rand(1, generator=generator).shape, has_drawn()
        (False, torch.Size([1]), True)
    """
    before = [(generator, _state(generator)) for generator in generators]
    return lambda: not all(_same(_state(generator), state) for generator, state in before)


@contextmanager
def draws_of(module: nn.Module, generators: Sequence[Generator]) -> Iterator[list[str]]:
    """The names of the innermost submodules that draw from the generators in the body, one for each draw."""
    found: list[str] = []
    open_calls: list[tuple[Callable[[], bool], int]] = []

    def before(called: nn.Module, args: Any) -> None:
        open_calls.append((drawn_from(generators), len(found)))

    def after(name: str) -> Callable[..., None]:
        def hook(called: nn.Module, args: Any, output: Any) -> None:
            has_drawn, known = open_calls.pop()
            if len(found) == known and has_drawn():
                found.append(name)

        return hook

    handles = []
    for name, submodule in module.named_modules():
        if isinstance(submodule, torch.jit.ScriptModule):
            continue  # it takes no hooks
        handles.append(submodule.register_forward_pre_hook(before))
        handles.append(submodule.register_forward_hook(after(name or "forward")))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def is_generator(value: Any) -> bool:
    """Whether a model's attribute is a random generator."""
    return isinstance(value, (torch.Generator, np.random.Generator, np.random.RandomState, random.Random))


def _state(generator: Generator) -> Any:
    if generator is random or isinstance(generator, random.Random):
        return generator.getstate()
    return generator.bit_generator.state if isinstance(generator, np.random.Generator) else generator.get_state()


def _restore(generator: Generator, state: Any) -> None:
    if generator is random or isinstance(generator, random.Random):
        generator.setstate(state)
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    else:
        generator.set_state(state)


def _reseed(generator: Generator, seed: int) -> None:
    if isinstance(generator, torch.Generator):
        generator.manual_seed(seed)
    elif isinstance(generator, np.random.Generator):
        kind: Any = type(generator.bit_generator)
        generator.bit_generator.state = kind(seed % 2**64).state
    else:
        generator.seed(seed % 2**32)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)
