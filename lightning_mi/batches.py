"""A validation batch of whatever structure -> mono waveforms and their true lengths."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

_WAVEFORM_NAMES = (
    "input_values",
    "waveforms",
    "waveform",
    "audio",
    "audios",
    "audio_values",
    "wav",
    "wavs",
    "speech",
    "signal",
    "signals",
    "sig",
    "source",
    "samples",
)
_LENGTH_NAMES = (
    "lengths",
    "length",
    "waveform_lengths",
    "waveforms_lengths",
    "waveform_length",
    "audio_lengths",
    "audio_length",
    "wav_lengths",
    "wav_lens",
    "wav_len",
    "input_lengths",
    "input_length",
    "lens",
    "num_samples",
)
_MASK_NAMES = ("attention_mask", "mask")
_PADDING_NAMES = ("padding_mask",)
_SHORTEST_WAVEFORM = 200  # values; below that a row is a vector of labels or features, not sound
_LINES_SHOWN = 20


class Waveforms(NamedTuple):
    """Mono waveforms of one batch; what ``batch_to_waveforms`` may return in the place of a tensor.

    Attributes:
        samples: ``(B, T)`` or ``(B, 1, T)``, padded at the end.
        lengths: ``(B,)`` integers, the true length of each row in samples. ``None``: trailing exact zeros
            are padding.
        groups: ``(B,)`` integers, the group (speaker, session) of each row, whose pairs stay on one side of
            the split. ``None``: each utterance is its own group.
    """

    samples: Tensor
    lengths: Tensor | None = None
    groups: Tensor | None = None


class UnknownStructureError(ValueError):
    """The batch or the model has a structure that cannot be told: the user has to say how to read it."""


def waveforms_in_batch(batch: Any) -> Waveforms:
    """Find the waveforms, and where they say it their lengths, in a batch.

    Understood are a tensor; tuples, lists, namedtuples, dataclasses and mappings of tensors, nested ones
    too; a list of 1-D waveforms. A floating-point tensor of shape ``(B, T)`` or ``(B, 1, T)`` is a waveform;
    where there are several, the names of mapping keys and fields decide (``input_values``, ``waveforms``,
    ``audio``, ``wav``, ``speech``, ...). Lengths come from a tensor of such a name (``lengths``,
    ``wav_lens``, ...; in samples, or as shares of the longest), from an attention or padding mask of the
    waveform's shape, or from a nameless integer tensor whose largest value is T.

    Args:
        batch: What the validation dataloader gave.

    Returns:
        The waveforms, with ``(B, T)`` or ``(B, 1, T)`` samples and ``(B,)`` int64 lengths (never ``None``).

    Raises:
        UnknownStructureError: (a ValueError) where no waveform, or more than one, is found; the message
            names the argument ``batch_to_waveforms=`` and shows the structure.

    Example:
        >>> import torch
        >>> batch = {"input_values": torch.ones(2, 800), "labels": torch.tensor([3, 1])}
        >>> samples, lengths, groups = waveforms_in_batch(batch)
        >>> samples.shape, lengths
        (torch.Size([2, 800]), tensor([800, 800]))
    """
    leaves = list(_leaves(batch))
    samples = _choose_waveform(batch, leaves)
    return check_waveforms(Waveforms(samples, _lengths_beside(samples, leaves)), batch)


def check_waveforms(found: Tensor | Waveforms | tuple[Any, ...], batch: Any) -> Waveforms:
    """Check what was found in (or given for) a batch and fill in the lengths where they are unknown.

    Raises:
        UnknownStructureError: If the samples are not mono waveforms, or the lengths or groups do not fit.
    """
    waveforms = Waveforms(found) if isinstance(found, Tensor) else Waveforms(*found)
    samples, lengths, groups = waveforms
    if not isinstance(samples, Tensor) or not _looks_like_waveform(samples, shortest=1):
        raise UnknownStructureError(
            "`batch_to_waveforms` must give mono waveforms, a floating-point tensor of shape (B, T) or "
            f"(B, 1, T), got {_describe_leaf(samples)}.\nThe batch is\n{describe_structure(batch)}"
        )
    num_rows, num_samples = samples.shape[0], samples.shape[-1]
    if lengths is None:
        lengths = _length_without_trailing_zeros(samples.reshape(num_rows, num_samples))
    for name, value in (("lengths", lengths), ("groups", groups)):
        if value is not None and (value.shape != (num_rows,) or value.is_floating_point()):
            raise UnknownStructureError(
                f"`batch_to_waveforms` must give `{name}` as integers of shape ({num_rows},), one for each "
                f"row of the waveforms, got {_describe_leaf(value)}."
            )
    return Waveforms(samples, lengths.to(torch.int64).clamp(0, num_samples), groups)


def describe_structure(batch: Any) -> str:
    """The structure of a batch, a line a leaf: path, type, shape and dtype.

    Example:
        >>> import torch
        >>> print(describe_structure({"x": [torch.zeros(2, 3), "a"]}))
          batch['x'][0]: Tensor of shape (2, 3), torch.float32
          batch['x'][1]: str
    """
    lines = [f"  batch{path}: {_describe_leaf(leaf)}" for path, _, leaf in _leaves(batch)]
    if len(lines) > _LINES_SHOWN:
        lines = [*lines[:_LINES_SHOWN], f"  ... and {len(lines) - _LINES_SHOWN} more"]
    return "\n".join(lines) if lines else f"  batch: empty {type(batch).__name__}"


def _describe_leaf(leaf: Any) -> str:
    if isinstance(leaf, Tensor):
        return f"Tensor of shape {tuple(leaf.shape)}, {leaf.dtype}"
    return type(leaf).__name__


class _Leaf(NamedTuple):
    path: str
    name: str  # of the nearest mapping key or field
    value: Any


def _leaves(node: Any, path: str = "", name: str = "") -> Iterator[_Leaf]:
    if isinstance(node, (list, tuple)) and node and all(_is_single_waveform(item) for item in node):
        padded = torch.nn.utils.rnn.pad_sequence(list(node), batch_first=True)
        lengths = torch.tensor([len(item) for item in node], device=padded.device)
        yield _Leaf(path, name, padded)
        yield _Leaf(path, "lengths", lengths)
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from _leaves(value, f"{path}[{key!r}]", str(key).lower())
    elif isinstance(node, tuple) and hasattr(node, "_fields"):
        for field in node._fields:
            yield from _leaves(getattr(node, field), f"{path}.{field}", field.lower())
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from _leaves(value, f"{path}[{index}]", name)
    elif dataclasses.is_dataclass(node) and not isinstance(node, type):
        for spec in dataclasses.fields(node):
            yield from _leaves(getattr(node, spec.name), f"{path}.{spec.name}", spec.name.lower())
    else:
        yield _Leaf(path, name, node)


def _is_single_waveform(item: Any) -> bool:
    return (
        isinstance(item, Tensor)
        and item.is_floating_point()
        and item.ndim == 1
        and len(item) >= _SHORTEST_WAVEFORM
    )


def _looks_like_waveform(x: Any, shortest: int) -> bool:
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim not in (2, 3):
        return False
    return x.shape[-1] >= shortest and (x.ndim == 2 or x.shape[1] == 1)


def _choose_waveform(batch: Any, leaves: list[_Leaf]) -> Tensor:
    candidates = [
        leaf
        for leaf in leaves
        if _looks_like_waveform(leaf.value, _SHORTEST_WAVEFORM)
        and leaf.name not in (*_MASK_NAMES, *_PADDING_NAMES)
    ]
    if len(candidates) != 1:
        # The names stand in the order of how sure they are: the first that occurs decides.
        ranks = [_WAVEFORM_NAMES.index(leaf.name) for leaf in candidates if leaf.name in _WAVEFORM_NAMES]
        if ranks:
            candidates = [leaf for leaf in candidates if leaf.name == _WAVEFORM_NAMES[min(ranks)]]
    if len(candidates) == 1:
        return candidates[0].value
    raise UnknownStructureError(
        "Cannot tell which part of the validation batch holds the waveforms: expected one floating-point "
        f"tensor of shape (B, T) or (B, 1, T), found {len(candidates) or 'none'} in\n"
        f"{describe_structure(batch)}\n"
        "Pass `batch_to_waveforms=`, a function of the batch that returns the waveforms, or the waveforms, "
        "their lengths and their groups."
    )


def _lengths_beside(samples: Tensor, leaves: list[_Leaf]) -> Tensor | None:
    """Lengths ``(B,)`` that the batch gives for ``samples``, the surest source first."""
    num_rows, num_samples = samples.shape[0], samples.shape[-1]
    tensors = [leaf for leaf in leaves if isinstance(leaf.value, Tensor) and leaf.value is not samples]
    vectors = [
        leaf._replace(value=leaf.value.reshape(num_rows))
        for leaf in tensors
        if leaf.value.shape in ((num_rows,), (num_rows, 1))
    ]
    masks = [leaf for leaf in tensors if leaf.value.shape == (num_rows, num_samples)]
    for _, name, value in vectors:
        if name in _LENGTH_NAMES and value.is_floating_point() and _within(value, 0, 1):
            return (value * num_samples).round().long()  # shares of the longest
        if name in _LENGTH_NAMES and not value.is_floating_point() and _within(value, 0, num_samples):
            return value
    for leaf in masks:
        if leaf.name in _MASK_NAMES:
            return _length_of_prefix(leaf.value != 0, leaf.path)
        if leaf.name in _PADDING_NAMES:
            return _length_of_prefix(leaf.value == 0, leaf.path)
    for _, _, value in vectors:
        # Class labels do not reach up to just the number of samples.
        is_integer = value.dtype in (torch.int32, torch.int64)
        if is_integer and _within(value, 1, num_samples) and int(value.max()) == num_samples:
            return value
    for leaf in masks:
        if leaf.name == "" and leaf.value.dtype == torch.bool:
            # It says which samples are sound or which are padding: the first column tells.
            starts_valid = bool(leaf.value[:, 0].all())
            return _length_of_prefix(leaf.value if starts_valid else ~leaf.value, leaf.path)
    return None


def _within(value: Tensor, low: int, high: int) -> bool:
    return bool((value >= low).all()) and bool((value <= high).all())


def _length_of_prefix(valid: Tensor, path: str) -> Tensor:
    lengths = valid.sum(dim=1)
    if not bool((valid == (torch.arange(valid.shape[1], device=valid.device) < lengths[:, None])).all()):
        raise UnknownStructureError(
            f"batch{path} was read as a mask of padding, but its rows are not sound first and padding "
            "behind. Pass `batch_to_waveforms=`, a function of the batch that returns the waveforms and "
            "their lengths."
        )
    return lengths


def _length_without_trailing_zeros(samples: Tensor) -> Tensor:
    sound = samples != 0
    last = sound.shape[1] - sound.flip(1).to(torch.uint8).argmax(dim=1)
    return torch.where(sound.any(dim=1), last, 0)
