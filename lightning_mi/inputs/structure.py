"""The structure of a nested batch: its leaves, and a description of them for error messages."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_mi.inputs.layout import WAVEFORMS, Layout

SHORTEST_WAVEFORM = 200  # values; a shorter row is a vector of labels or features, not sound
_LINES_SHOWN = 20


class UnknownStructureError(ValueError):
    """The structure of a batch or of a model's output is ambiguous; the message names the argument to set."""


class Leaf(NamedTuple):
    """One part of a batch that is no container.

    Attributes:
        path: How it is reached from the batch, such as ``['audio'][0]``.
        name: The nearest mapping key or field, in lower case.
        value: The part itself.
    """

    path: str
    name: str
    value: Any


def leaves(node: Any, layout: Layout = WAVEFORMS, path: str = "", name: str = "") -> Iterator[Leaf]:
    """Walk tuples, lists, namedtuples, dataclasses and mappings.

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
    """
    if isinstance(node, (list, tuple)) and node and _are_single_utterances(node, layout):
        rows = [item.T if layout.time_dim == 2 else item for item in node]
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        lengths = torch.tensor([len(row) for row in rows], device=padded.device)
        yield Leaf(path, name, padded.transpose(1, 2) if layout.time_dim == 2 else padded)
        yield Leaf(path, "lengths", lengths)
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from leaves(value, layout, f"{path}[{key!r}]", str(key).lower())
    elif isinstance(node, tuple) and hasattr(node, "_fields"):
        for field in node._fields:
            yield from leaves(getattr(node, field), layout, f"{path}.{field}", field.lower())
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from leaves(value, layout, f"{path}[{index}]", name)
    elif dataclasses.is_dataclass(node) and not isinstance(node, type):
        for spec in dataclasses.fields(node):
            yield from leaves(getattr(node, spec.name), layout, f"{path}.{spec.name}", spec.name.lower())
    else:
        yield Leaf(path, name, node)


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


def _are_single_utterances(items: Sequence[Any], layout: Layout) -> bool:
    if not all(isinstance(item, Tensor) and item.is_floating_point() for item in items):
        return False
    if layout.time_dim is None:
        return all(item.ndim == 1 and len(item) >= SHORTEST_WAVEFORM for item in items)
    widths = {item.shape[2 - layout.time_dim] if item.ndim == 2 else None for item in items}
    return len(widths) == 1 and None not in widths
