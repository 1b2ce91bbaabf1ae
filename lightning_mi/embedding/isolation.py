"""Side-effect-free evaluation of a module: its state and all random generators are restored."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lightning_mi.embedding.randomness import Generator, OwnRandomness, global_generators, is_generator

_LARGEST_TENSOR = 1 << 24  # elements; a larger tensor that is no buffer is a cache of activations, not a counter
_LARGEST_CONTAINER = 10_000  # entries; what lies inside a larger one is data, not state
_DEEPEST = 4  # containers inside containers
_CONTAINERS = (list, tuple, deque, set, dict, OrderedDict, defaultdict, Counter)
_REGISTRIES = ("_parameters", "_buffers", "_modules")
_OWN_ATTRIBUTES = frozenset(vars(nn.Module()))  # of every module: the registries, hooks
_SHARDING_LIBRARIES = ("torch.distributed", "deepspeed")  # whose wrappers keep books of their own

Restore = Callable[[], object]


@contextmanager
def isolated(module: nn.Module, seed: int) -> Iterator[OwnRandomness]:
    """Run the body in eval mode, uncompiled, without gradients, with its own random numbers, without side effects.

    On leaving, the training mode, the buffers and the plain attributes (counters, lists, cached tensors of up to
    16 million elements, random generators) of each submodule, what its registries hold, gradients, and which
    parameters require them are as before, also of modules in its lists and dicts; so are the random generators of
    torch, of the module's CUDA devices, of numpy and of python. What ``torch.compile`` has compiled is neither
    used nor added to: new shapes would change later graphs.

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
    hidden = list(_hidden_modules(submodules))
    generators = global_generators(cuda_devices(module))
    restores = [_remember_mode(submodule) for submodule in (*submodules, *hidden)]
    if not any(map(_is_sharded, submodules)):
        restores += [
            _remember_gradient(p) for each in (*submodules, *hidden) for p in each.parameters(recurse=False)
        ]
    for submodule in (*submodules, *hidden):
        restores += _remember_state(submodule, generators)
    randomness = OwnRandomness(generators, seed)
    try:
        with (
            # Functions that cache tensors by length would keep some that training cannot use.
            torch.inference_mode(False),
            torch.no_grad(),
            torch.compiler.set_stance("force_eager"),
            randomness.seeded(),
        ):
            for submodule in submodules:  # not the hidden ones, which `eval` does not reach either
                _set_training(submodule, False)
            yield randomness
    finally:
        _restore_all(restores)


def _restore_all(restores: list[Restore]) -> None:
    """Call each, also behind one that raises."""
    errors = []
    with torch.no_grad():
        for restore in restores:
            try:
                restore()
            except Exception as error:
                errors.append(error)
    if errors:
        raise errors[0]


def _hidden_modules(known: list[nn.Module]) -> Iterator[nn.Module]:
    """Modules in lists, dicts and plain attributes of the known ones, where ``modules()`` does not find them."""
    seen = set(known)
    for module in known:
        for name, value in _attributes(module).items():
            if name not in _OWN_ATTRIBUTES:
                for found in _modules_in(value):
                    new = [each for each in found.modules() if each not in seen]
                    seen.update(new)
                    yield from new


def _modules_in(value: Any, depth: int = 0) -> Iterator[nn.Module]:
    if isinstance(value, nn.Module):
        yield value
    elif type(value) in _CONTAINERS and depth < _DEEPEST and len(value) <= _LARGEST_CONTAINER:
        for entry in value.values() if isinstance(value, dict) else value:
            yield from _modules_in(entry, depth + 1)


def _is_sharded(module: nn.Module) -> bool:
    parameters = module.parameters(recurse=False)
    return type(module).__module__.startswith(_SHARDING_LIBRARIES) or any(
        hasattr(p, "to_local") for p in parameters
    )


def _is_scripted(module: nn.Module) -> bool:
    return isinstance(module, torch.jit.ScriptModule)


def _attributes(module: nn.Module) -> dict[str, Any]:
    """Plain attributes; those of a scripted module are not Python's."""
    return {} if _is_scripted(module) else vars(module)


def _set_training(module: nn.Module, training: bool) -> None:
    if hasattr(module, "training"):  # not so if it is scripted and frozen
        module.training = training


def _remember_mode(module: nn.Module) -> Restore:
    training = getattr(module, "training", False)
    required = [(p, p.requires_grad) for p in module.parameters(recurse=False)]

    def restore() -> None:
        _set_training(module, training)
        for parameter, requires_grad in required:
            if parameter.requires_grad != requires_grad:
                parameter.requires_grad_(requires_grad)

    return restore


def _remember_gradient(parameter: nn.Parameter) -> Restore:
    """Put it aside: a forward that calls ``backward`` would add to it."""
    kept = parameter.grad
    if kept is not None:
        parameter.grad = None

    def restore() -> None:
        if parameter.grad is not kept:
            parameter.grad = kept

    return restore


def _remember_state(module: nn.Module, generators: list[Generator]) -> Iterator[Restore]:
    """What restores the module; the random generators among its attributes are added to ``generators``."""
    if type(module).__module__.startswith(_SHARDING_LIBRARIES):
        return
    for buffer in module.buffers(recurse=False):
        yield _remember_tensor(buffer)
    if _is_scripted(module):
        return
    yield _remember_registries(module)
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
    if type(value) in (Tensor, nn.Parameter):
        if value.numel() <= _LARGEST_TENSOR:
            yield _remember_tensor(value)
    elif isinstance(value, np.ndarray):
        if value.size <= _LARGEST_TENSOR and value.dtype != object:
            yield _remember_array(value)
    elif type(value) in _CONTAINERS:
        if type(value) is not tuple:
            yield _remember_container(value)
        if depth < _DEEPEST and len(value) <= _LARGEST_CONTAINER:
            for entry in value.values() if isinstance(value, dict) else value:
                yield from _remember(entry, generators, depth + 1)
    elif is_generator(value) and not any(value is known for known in generators):
        generators.append(value)


def _remember_tensor(x: Tensor) -> Restore:
    if is_lazy(x) or x.device.type == "meta":
        return lambda: None  # it has no values
    kept = x.detach().clone()

    def restore() -> None:
        # Versions do not tell: batch normalisation writes without counting.
        if not _equal(x, kept):
            x.copy_(kept)

    return restore


def _remember_array(x: np.ndarray) -> Restore:
    kept = x.copy()

    def restore() -> None:
        if x.flags.writeable:
            np.copyto(x, kept)

    return restore


def _equal(x: Tensor, kept: Tensor) -> bool:
    if x.is_nested or x.layout != torch.strided:
        return False  # not compared, but copied
    # An expanded tensor cannot be copied to, hence NaN must be seen to be equal.
    return torch.equal(x, kept) or bool(((x == kept) | ((x != x) & (kept != kept))).all())


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
                dict.update(value, entries)  # a Counter's own would count them

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
