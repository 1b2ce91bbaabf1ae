"""The structure of a nested batch: its leaves, and a description of them for error messages."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_mi.inputs.layout import WAVEFORMS, Layout

SHORTEST_WAVEFORM = 200  # values; a shorter row is a vector of labels or features, not sound
_LINES_SHOWN = 20
_DEEPEST = 8  # levels below the batch; objects may refer to each other
_ALL_ROWS = "[:]"  # in paths: the rows of a batch that is a list of them
_SAYS_NOTHING = ("data", "array", "tensor", "value", "values")  # names of what a container is made for
_NO_CONTAINERS = ("builtins", "torch", "numpy", "pathlib", "datetime", "collections")


class UnknownStructureError(ValueError):
    """The structure of a batch or of a model's output is ambiguous; the message names the argument to set."""


class NoUtterancesError(UnknownStructureError):
    """A batch holds nothing that could be utterances, as those of a dataloader of other data."""


class Leaf(NamedTuple):
    """One part of a batch that is no container.

    Attributes:
        path: How it is reached from the batch, such as ``['audio'][0]``; of a column of rows ``[:]['audio']``.
        name: The nearest mapping key or field that says something, in lower case.
        value: The part itself; arrays of numpy as tensors.
    """

    path: str
    name: str
    value: Any

    @property
    def parent(self) -> str:
        """Path of the container that it is in."""
        return self.path[: max(self.path.rfind("["), self.path.rfind("."), 0)]


def leaves(node: Any, layout: Layout = WAVEFORMS, path: str = "", name: str = "") -> Iterator[Leaf]:
    """Walk tuples, lists, namedtuples, dataclasses, mappings and objects with public attributes.

    A list of rows (utterances, or containers that each hold one) is walked as the container of its columns.

    Args:
        node: The batch.
        layout: A list or tuple of single utterances in this layout is one leaf, padded to ``(B, ...)``, followed
            by a leaf ``lengths`` of shape ``(B,)``.
        path: Path of ``node``.
        name: Name of ``node``.

    Example:
        >>> import torch
        >>> [leaf.path for leaf in leaves({"x": (torch.zeros(2), "a")})]
        ["['x'][0]", "['x'][1]"]
        >>> [leaf.path for leaf in leaves([{"x": torch.zeros(300), "id": 3}, {"x": torch.zeros(200), "id": 4}])]
        ["[:]['x']", "[:]['x']", "[:]['id'][0]", "[:]['id'][1]"]
    """
    is_list = isinstance(node, (list, tuple)) and not hasattr(node, "_fields")
    if isinstance(node, (list, tuple)) and node and all(_is_single_utterance(item, layout) for item in node):
        yield from _padded(node, layout, path, name)
    elif is_list and (columns := _columns(node, layout)):
        for step, column in columns.items():
            yield from leaves(column, layout, f"{path}{_ALL_ROWS}{step}", _name_of(step, name))
    elif (parts := _parts(node)) is not None and path.count("[") + path.count(".") < _DEEPEST:
        for step, value in parts.items():
            yield from leaves(value, layout, path + step, _name_of(step, name))
    else:
        yield Leaf(path, name, _as_tensor(node))


def vectors(parts: Sequence[Leaf], num_rows: int) -> list[Leaf]:
    """The leaves that hold one number for each of ``num_rows`` utterances, as ``(B,)`` tensors; a list is one.

    Example:
        >>> [leaf.value.tolist() for leaf in vectors(list(leaves({"n": [3, 4], "rate": torch.ones(2, 1)})), 2)]
        [[1.0, 1.0], [3, 4]]
    """
    found: list[Leaf] = []
    lists: dict[tuple[str, str], list[Any]] = {}
    for leaf in parts:
        if isinstance(leaf.value, Tensor) and leaf.value.shape in ((num_rows,), (num_rows, 1)):
            found.append(leaf._replace(value=leaf.value.detach().reshape(num_rows)))
        elif (number := as_number(leaf.value)) is not None and leaf.path[-2:-1].isdigit():
            lists.setdefault((leaf.parent, leaf.name), []).append(number)
    found += [
        Leaf(path, name, torch.tensor(values))
        for (path, name), values in lists.items()
        if name and len(values) == num_rows
    ]
    return found


def as_number(value: Any) -> float | int | None:
    """A number, also in a tensor of no dimension; ``None`` if it is none."""
    if isinstance(value, Tensor):
        value = value.item() if value.ndim == 0 else None
    return None if isinstance(value, bool) or not isinstance(value, (int, float)) else value


def describe_structure(batch: Any) -> str:
    """The structure of a batch as text, a line a leaf: path, type, shape and dtype.

    Example:
        >>> import torch
        >>> print(describe_structure({"x": [torch.zeros(2, 3), "a"]}))
          batch['x'][0]: Tensor of shape (2, 3), torch.float32
          batch['x'][1]: str
    """
    lines = [f"  batch{path}: {describe_leaf(leaf)}" for path, _, leaf in leaves(batch)]
    if len(lines) > _LINES_SHOWN:
        lines = [*lines[:_LINES_SHOWN], f"  ... and {len(lines) - _LINES_SHOWN} more"]
    return "\n".join(lines) if lines else f"  batch: empty {type(batch).__name__}"


def describe_leaf(leaf: Any) -> str:
    """One leaf as text.

    Example:
        >>> import torch
        >>> describe_leaf(torch.zeros(2, 3))
        'Tensor of shape (2, 3), torch.float32'
    """
    if isinstance(leaf, Tensor):
        return f"Tensor of shape {tuple(leaf.shape)}, {leaf.dtype}"
    return type(leaf).__name__


def _parts(node: Any) -> dict[str, Any] | None:
    """What a container holds, by the step to it; ``None`` if ``node`` is none."""
    if isinstance(node, Mapping):
        return {f"[{key!r}]": value for key, value in node.items()}
    if isinstance(node, tuple) and hasattr(node, "_fields"):
        return {f".{field}": getattr(node, field) for field in node._fields}
    if isinstance(node, (list, tuple)):
        return {f"[{index}]": value for index, value in enumerate(node)}
    if isinstance(node, type):
        return None
    if dataclasses.is_dataclass(node):
        return {f".{spec.name}": getattr(node, spec.name) for spec in dataclasses.fields(node)}
    if isinstance(node, (Tensor, torch.nn.Module)) or callable(node):
        return None
    if type(node).__module__.partition(".")[0] in _NO_CONTAINERS:
        return None
    public = {f".{key}": value for key, value in getattr(node, "__dict__", {}).items() if key[:1] != "_"}
    return public or None


def _name_of(step: str, name: str) -> str:
    """The name of what is reached by a step from a container of this name."""
    own = step[1:] if step[0] == "." else step[1:-1]
    if step[0] == "[":
        if own.lstrip("-").isdigit():
            return name
        own = own.strip("'\"")
    own = own.lower()
    return name if name and own in _SAYS_NOTHING else own


def _columns(rows: Sequence[Any], layout: Layout) -> dict[str, list[Any]] | None:
    """The columns of a list of rows, each a container of one utterance; ``None`` if it is no such list."""
    if not rows or not all(_holds_one_utterance(row, layout) for row in rows):
        return None
    parts = [_parts(row) or {} for row in rows]
    shared = [step for step in parts[0] if all(step in each for each in parts)]
    return {step: [each[step] for each in parts] for step in shared}


def _holds_one_utterance(row: Any, layout: Layout, depth: int = 0) -> bool:
    parts = None if depth > 2 else _parts(row)
    if not parts or len(parts) > _LINES_SHOWN * 2:
        return False
    own = sum(_is_single_utterance(part, layout) for part in parts.values())
    is_plain = isinstance(row, (list, tuple)) and not hasattr(row, "_fields")
    if own and (own == 1 or not is_plain):
        return True
    return own == 0 and sum(_holds_one_utterance(part, layout, depth + 1) for part in parts.values()) == 1


def _is_single_utterance(item: Any, layout: Layout) -> bool:
    if isinstance(item, np.ndarray):
        is_float = item.dtype.kind == "f"
    else:
        is_float = isinstance(item, Tensor) and item.is_floating_point()
    if not is_float:
        return False
    if layout.time_dim is not None:
        return item.ndim == 2
    is_mono = item.ndim == 1 or (item.ndim == 2 and item.shape[0] == 1)
    return bool(is_mono and item.shape[-1] >= SHORTEST_WAVEFORM)


def _padded(items: Sequence[Any], layout: Layout, path: str, name: str) -> Iterator[Leaf]:
    """Single utterances as a batch and its lengths; as they are if they do not fit together."""
    rows = [_as_tensor(item) for item in items]
    if layout.time_dim is None:
        rows = [row.reshape(-1) for row in rows]
    elif layout.time_dim == 2:
        rows = [row.T for row in rows]
    if len({row.shape[1:] for row in rows}) > 1:
        for index, row in enumerate(items):
            yield Leaf(f"{path}[{index}]", name, _as_tensor(row))
        return
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    lengths = torch.tensor([len(row) for row in rows], device=padded.device)
    yield Leaf(path, name, padded.transpose(1, 2) if layout.time_dim == 2 else padded)
    yield Leaf(path, "lengths", lengths)


def _as_tensor(value: Any) -> Any:
    """Arrays of numpy as tensors, double precision as single, which models take; all else as it is."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        array = value.astype(np.float32) if value.dtype == np.float64 else value
        try:
            return torch.from_numpy(np.ascontiguousarray(array))
        except TypeError:
            return value
    return value.item() if isinstance(value, np.generic) else value
