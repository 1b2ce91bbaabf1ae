"""The embedding in a model's output, whatever structure that has and wherever its time dimension lies."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeGuard

import torch
from torch import Tensor

OUTPUT = "output"  # the layer name of the encoder's own output

# In this order. In fairseq's outputs `x` is the last layer, beside `features`, which it was made of.
_NAMES: tuple[str, ...] = (
    "last_hidden_state",
    "encoder_out",
    "encoder_output",
    "encoder_last_hidden_state",
    "hidden_states",
    "embeddings",
    "embedding",
    "representations",
    "z",
    "x",
    "features",
)
_FAIRSEQS = ("padding_mask", "features", "layer_results")

Path = tuple[Any, ...]  # keys and indices, from the outermost


class Dims(NamedTuple):
    """What the dimensions of an output are.

    Attributes:
        batch: The one with a row for each segment.
        time: The one that is time; ``None`` if each row is one vector.
        grows: Whether longer segments were seen to give more of it; otherwise it is assumed.
    """

    batch: int
    time: int | None
    grows: bool = False

    def frames(self, output: Tensor) -> Tensor:
        """``(B, T, D)`` or ``(B, D)`` of an output; D are all dimensions that are neither rows nor time.

        Example:
            >>> import torch
            >>> Dims(batch=0, time=3).frames(torch.zeros(2, 8, 5, 40)).shape
            torch.Size([2, 40, 40])
        """
        if self.time is None:
            return output.movedim(self.batch, 0).flatten(1)
        return output.movedim((self.batch, self.time), (0, 1)).flatten(2)


class Location(NamedTuple):
    """Where an embedding is in an output.

    Attributes:
        path: Keys and indices from the output to the tensor.
        dims: The tensor's dimensions.
        lengths: Keys and indices to ``(B,)`` integers, the number of frames that are no padding; ``None`` if the
            output has none.
    """

    path: Path
    dims: Dims
    lengths: Path | None = None

    def frames(self, output: Any, batch_size: int) -> Tensor | None:
        """The embedding ``(B, T, D)`` or ``(B, D)``; ``None`` if the output has no such tensor of B rows."""
        x = at(output, self.path)
        if not is_plain(x) or x.ndim <= max(self.dims.batch, self.dims.time or 0):
            return None
        if x.shape[self.dims.batch] != batch_size:
            return None
        frames = self.dims.frames(x)
        lengths = None if self.lengths is None else at(output, self.lengths)
        # All segments are equally long.
        return frames if not isinstance(lengths, Tensor) else frames[:, : max(1, int(lengths.max()))]

    @property
    def key(self) -> str:
        """The path as one would write it in Python, such as ``['encoder_out'][0]``."""
        return "".join(f"[{key!r}]" for key in self.path)


def at(output: Any, path: Path) -> Any:
    """The part of an output at a path; ``None`` if there is none.

    Example:
        >>> at({"layers": [1, 2]}, ("layers", 1)), at({"layers": [1, 2]}, ("layers", 2))
        (2, None)
    """
    for key in path:
        parts = _parts(output)
        output = None if parts is None else dict(parts).get(key)
    return output


def locate(output: Any, dims_of: Callable[[Path, Tensor], Dims | None]) -> Location | None:
    """Find the embedding in a model's output; ``None`` if there is none, or it is ambiguous.

    Supported are a tensor, a list of layers (the last is taken), these beside lengths or other tensors of fewer
    dimensions, and mappings, namedtuples and ModelOutputs. What grows with the segments comes before what does
    not. Two tensors of one rank beside each other are ambiguous, unless they are a list, which is of layers, or
    have a name that says it; so are two structures.

    Args:
        output: The output.
        dims_of: The dimensions of a tensor at a path; ``None`` if it is no embedding.
    """
    return _locate(output, (), dims_of)


def assumed_dims(batch_size: int) -> Callable[[Path, Tensor], Dims | None]:
    """The dimensions that tensors have if nothing else is known: ``(B, T, D)`` or ``(B, D)``."""

    def dims_of(path: Path, x: Tensor) -> Dims | None:
        fits = is_plain(x) and x.is_floating_point() and x.ndim in (2, 3) and x.numel() > 0
        return Dims(0, 1 if x.ndim == 3 else None) if fits and x.shape[0] == batch_size else None

    return dims_of


def frames_in_output(output: Any, batch_size: int) -> Tensor | None:
    """The embedding in a model's output as it is assumed to lie there, ``(B, T, D)`` or ``(B, D)``; ``None`` if it
    is ambiguous (:func:`locate`).

    Example:
        >>> import torch
        >>> layers, lengths = [torch.zeros(2, 5, 4), torch.ones(2, 5, 4)], torch.tensor([5, 5])
        >>> frames_in_output((layers, lengths), batch_size=2).mean().item()
        1.0
    """
    location = locate(output, assumed_dims(batch_size))
    return None if location is None else location.frames(output, batch_size)


def is_plain(x: Any) -> TypeGuard[Tensor]:
    """Whether it is a tensor that is neither nested nor sparse nor quantised.

    Example:
        >>> import torch
        >>> is_plain(torch.ones(2)), is_plain(torch.ones(2).to_sparse()), is_plain([1.0])
        (True, False, False)
    """
    return isinstance(x, Tensor) and not x.is_nested and x.layout == torch.strided and not x.is_quantized


def describe_output(output: Any) -> str:
    """A model's output as text, for error messages.

    Example:
        >>> import torch
        >>> describe_output((torch.zeros(2, 3), None))
        'a tuple of (a tensor of shape (2, 3), torch.float32, a NoneType)'
    """
    if isinstance(output, Tensor) and not is_plain(output):
        return f"a {'nested' if output.is_nested else 'sparse or quantised'} tensor, {output.dtype}"
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)}, {output.dtype}"
    if dataclasses.is_dataclass(output) and not isinstance(output, (type, Mapping)):
        output = dict(_parts(output) or [])
    if isinstance(output, Mapping):
        return "{" + ", ".join(f"{key!r}: {describe_output(value)}" for key, value in output.items()) + "}"
    if isinstance(output, (list, tuple)):
        return f"a {type(output).__name__} of (" + ", ".join(describe_output(part) for part in output) + ")"
    return f"a {type(output).__name__}"


def copied(output: Any) -> Any:
    """A copy of an output: tensors, in lists, tuples and dicts (which namedtuples and dataclasses become)."""
    if isinstance(output, Tensor):
        return output.clone()
    parts = _parts(output)
    if parts is None:
        return output
    copies = [(key, copied(part)) for key, part in parts]
    if isinstance(output, (list, tuple)) and not hasattr(output, "_asdict"):
        return [part for _, part in copies] if isinstance(output, list) else tuple(part for _, part in copies)
    return dict(copies)


def tensors_in(output: Any, path: Path = ()) -> Iterator[tuple[Path, Tensor]]:
    """All tensors in an output, with their paths."""
    if isinstance(output, Tensor):
        yield path, output
    for key, part in _parts(output) or []:
        yield from tensors_in(part, (*path, key))


def _parts(output: Any) -> list[tuple[Any, Any]] | None:
    if hasattr(output, "_asdict"):
        output = output._asdict()
    if isinstance(output, Mapping):
        return list(output.items())
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        return [(each.name, getattr(output, each.name, None)) for each in dataclasses.fields(output)]
    return list(enumerate(output)) if isinstance(output, (list, tuple)) else None


def _locate(output: Any, path: Path, dims_of: Callable[[Path, Tensor], Dims | None]) -> Location | None:
    if isinstance(output, Tensor):
        dims = dims_of(path, output)
        return None if dims is None else Location(path, dims)
    parts = _parts(output)
    if parts is None:
        return None
    is_named = not isinstance(output, (list, tuple)) or hasattr(output, "_asdict")
    names = _NAMES
    if is_named and not any(key in _FAIRSEQS for key, _ in parts):
        names = tuple(name for name in _NAMES if name != "x")  # the input, as likely
    if is_named:
        parts.sort(key=lambda part: names.index(part[0]) if part[0] in names else len(names))
    found: list[tuple[Any, Tensor, Location]] = []
    for key, part in parts:
        location = _locate(part, (*path, key), dims_of)
        if location is None:
            continue
        if is_named and key in names:
            return location
        found.append((part, at(part, location.path[len(path) + 1 :]), location))
    highest = max((_rank(location.dims) for _, _, location in found), default=0)
    best = [each for each in found if _rank(each[2].dims) == highest]
    nested = [location for part, _, location in best if not isinstance(part, Tensor)]
    if nested:  # a list of layers, beside what was made of the last; two could be a student's and a teacher's
        return nested[0] if len(nested) == 1 else None
    # Different shapes could be anything, logits beside features for one; equal ones in a tuple too, as a mean and
    # a variance, or what a student and a teacher say. A tuple inside of another structure is one of layers.
    are_layers = isinstance(output, list) or (bool(path) and not is_named)
    if len(best) > 1 and not (are_layers and all(x.shape == best[0][1].shape for _, x, _ in best)):
        return None
    return best[-1][2] if best else None


def _rank(dims: Dims) -> int:
    if dims.time is None:
        return 0 if dims.grows else 1
    return 3 if dims.grows else 2
