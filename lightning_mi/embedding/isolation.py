"""Side-effect-free evaluation of a module: its state and all random generators are restored."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lightning_mi.embedding.randomness import Generator, OwnRandomness, global_generators, is_generator

_LARGEST_TENSOR = 1 << 20  # elements; a larger tensor that is no buffer is a cache of activations, not a counter
_LARGEST_CONTAINER = 10_000  # entries; what lies inside a larger one is data, not state
_DEEPEST = 4  # containers inside containers
_REGISTRIES = ("_parameters", "_buffers", "_modules")
_OWN_ATTRIBUTES = frozenset(vars(nn.Module()))  # of every module: the registries, hooks
_SHARDING_LIBRARIES = ("torch.distributed", "deepspeed")  # whose wrappers keep books of their own

Restore = Callable[[], object]


@contextmanager
def isolated(module: nn.Module, seed: int) -> Iterator[OwnRandomness]:
    """Run the body in eval mode, uncompiled, without gradients, with its own random numbers, without side effects.

    On leaving, the training mode, the buffers and the plain attributes (counters, lists, cached tensors, random
    generators) of each submodule, what its registries hold, and which parameters require gradients are as
    before; so are the random generators of torch, of the module's CUDA devices, of numpy and of python. What
    ``torch.compile`` has compiled is neither used nor added to: new shapes would change later graphs.

    Not seen, hence not restored: objects that are neither containers nor modules, and parameters that a forward
    in eval mode writes to.

    Args:
        module: The module that the body runs.
        seed: Seed of the random numbers that the body sees: a model that draws masks or dropout even in eval mode
            draws the same ones for the same seed. Generators among the module's attributes are seeded too.

    Yields:
        The generators, which tell whether the body has drawn from them.

    Example:
        >>> import torch
        >>> model = torch.nn.Dropout().train()
        >>> with isolated(model, seed=0):
        ...     print(model.training)
        False
        >>> model.training
        True
    """
    submodules = list(module.modules())
    restores = [_remember_mode(submodule) for submodule in submodules]
    generators = global_generators(cuda_devices(module))
    restores += [restore for submodule in submodules for restore in _remember_state(submodule, generators)]
    randomness = OwnRandomness(generators, seed)
    with torch.no_grad(), torch.compiler.set_stance("force_eager"), randomness.seeded():
        try:
            for submodule in submodules:
                submodule.training = False
            yield randomness
        finally:
            for restore in restores:
                restore()


def _remember_mode(module: nn.Module) -> Restore:
    training = module.training
    required = [(p, p.requires_grad) for p in module._parameters.values() if p is not None]

    def restore() -> None:
        module.training = training
        for parameter, requires_grad in required:
            if parameter.requires_grad != requires_grad:
                parameter.requires_grad_(requires_grad)

    return restore


def _remember_state(module: nn.Module, generators: list[Generator]) -> Iterator[Restore]:
    """What restores the module; the random generators among its attributes are added to ``generators``."""
    if type(module).__module__.startswith(_SHARDING_LIBRARIES):
        return
    yield _remember_registries(module)
    for buffer in module._buffers.values():
        if buffer is not None:
            yield _remember_tensor(buffer)
    yield _remember_attributes(module)
    for name, value in vars(module).items():
        if name not in _OWN_ATTRIBUTES:
            yield from _remember(value, generators)


def _remember_registries(module: nn.Module) -> Restore:
    names = {registry: set(vars(module)[registry]) for registry in _REGISTRIES}
    buffers = dict(module._buffers)

    def restore() -> None:
        for registry, known in names.items():
            entries = vars(module)[registry]
            for name in entries.keys() - known:
                del entries[name]
        module._buffers.update(buffers)

    return restore


def _remember_attributes(module: nn.Module) -> Restore:
    found = {name: value for name, value in vars(module).items() if name not in _OWN_ATTRIBUTES}

    def restore() -> None:
        now = vars(module)
        for name in now.keys() - found.keys() - _OWN_ATTRIBUTES:
            del now[name]
        now.update(found)

    return restore


def _remember(value: Any, generators: list[Generator], depth: int = 0) -> Iterator[Restore]:
    """What restores the inside of ``value``, if the body could have changed it in place; random generators are
    added to ``generators``."""
    if type(value) is Tensor:
        if value.numel() <= _LARGEST_TENSOR:
            yield _remember_tensor(value)
    elif type(value) in (list, deque, dict, set):
        yield _remember_container(value)
        if depth < _DEEPEST and len(value) <= _LARGEST_CONTAINER:
            for entry in value.values() if type(value) is dict else value:
                yield from _remember(entry, generators, depth + 1)
    elif is_generator(value) and not any(value is known for known in generators):
        generators.append(value)


def _remember_tensor(x: Tensor) -> Restore:
    kept = x.detach().clone()

    def restore() -> None:
        # Versions do not tell: batch normalisation writes without counting.
        if not torch.equal(x, kept):
            x.copy_(kept)

    return restore


def _remember_container(value: Any) -> Restore:
    if isinstance(value, set):
        members = set(value)

        def restore() -> None:
            value.intersection_update(members)
            value.update(members)

    elif isinstance(value, dict):
        entries = list(value.items())

        def restore() -> None:
            if not _same(value.items(), entries):
                value.clear()
                value.update(entries)

    else:
        items = list(value)

        def restore() -> None:
            if not _same(enumerate(value), list(enumerate(items))):
                value.clear()
                value.extend(items)

    return restore


def _same(now: Iterable[tuple[Any, Any]], before: list[tuple[Any, Any]]) -> bool:
    # By identity: tensors among the values cannot be compared to one truth value.
    now = list(now)
    return len(now) == len(before) and all(
        a is b and (k is m or k == m) for (k, a), (m, b) in zip(now, before, strict=True)
    )


def cuda_devices(module: nn.Module) -> list[torch.device]:
    """The CUDA devices that hold the module's parameters."""
    return sorted({p.device for p in module.parameters() if p.is_cuda}, key=lambda device: device.index)
