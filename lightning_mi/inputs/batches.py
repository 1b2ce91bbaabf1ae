"""A validation batch of whatever structure -> mono waveforms, or feature sequences, and their true lengths."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_mi.inputs.layout import WAVEFORMS, Layout

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
_SEQUENCE_NAMES = (
    "input_features",
    "features",
    "feature",
    "feats",
    "feat",
    "log_mel",
    "logmel",
    "mel",
    "mels",
    "fbank",
    "fbanks",
    "spectrogram",
    "spectrograms",
    "eeg",
    "sequences",
    "sequence",
    "x",
    "inputs",
    "input",
    *_WAVEFORM_NAMES,  # of many channels
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
_SEQUENCE_LENGTH_NAMES = (
    "lengths",
    "length",
    "feature_lengths",
    "features_lengths",
    "feature_length",
    "feat_lengths",
    "feats_lengths",
    "feats_len",
    "mel_lengths",
    "eeg_lengths",
    "sequence_lengths",
    "input_lengths",
    "input_length",
    "x_lengths",
    "x_lens",
    "lens",
    "num_frames",
)
_MASK_NAMES = ("attention_mask", "mask")
_PADDING_NAMES = ("padding_mask",)
_SHORTEST_WAVEFORM = 200  # values; below that a row is a vector of labels or features, not sound
_LINES_SHOWN = 20


class Waveforms(NamedTuple):
    """Utterances of one batch; what ``batch_to_waveforms`` may return in the place of a tensor.

    Attributes:
        samples: ``(B, T)`` or ``(B, 1, T)``, padded at the end; with ``time_dim`` feature sequences, ``(B, T, F)``
            or ``(B, F, T)``.
        lengths: ``(B,)`` integers, the true length of each row in samples (frames). ``None``: trailing exact zeros
            are padding.
        groups: ``(B,)`` integers, the group (speaker, session) of each row, whose pairs stay on one side of
            the split. ``None``: each utterance is its own group.
    """

    samples: Tensor
    lengths: Tensor | None = None
    groups: Tensor | None = None


class UnknownStructureError(ValueError):
    """The batch or the model has a structure that cannot be told: the user has to say how to read it."""


def waveforms_in_batch(batch: Any, layout: Layout = WAVEFORMS) -> Waveforms:
    """Find the waveforms, and where they say it their lengths, in a batch.

    Understood are a tensor; tuples, lists, namedtuples, dataclasses and mappings of tensors, nested ones
    too; a list of 1-D waveforms. A floating-point tensor of shape ``(B, T)`` or ``(B, 1, T)`` is a waveform;
    where there are several, the names of mapping keys and fields decide (``input_values``, ``waveforms``,
    ``audio``, ``wav``, ``speech``, ...). Lengths come from a tensor of such a name (``lengths``,
    ``wav_lens``, ...; in samples, or as shares of the longest), from an attention or padding mask of the
    waveform's shape, or from a nameless integer tensor whose largest value is T.

    Feature sequences are found the same way: a 3-D floating-point tensor, or a list of 2-D ones; names such as
    ``input_features``, ``features``, ``mel`` or ``eeg``; lengths such as ``feature_lengths``, in frames; a mask
    ``(B, T)``. A nameless integer tensor is their lengths only where all that lies behind them is one value:
    class labels may well reach up to T.

    Args:
        batch: What the validation dataloader gave.
        layout: What is looked for.

    Returns:
        The waveforms, with ``(B, T)`` or ``(B, 1, T)`` samples (feature sequences in their own layout) and
        ``(B,)`` int64 lengths (never ``None``).

    Raises:
        UnknownStructureError: (a ValueError) where no waveform, or more than one, is found; the message
            names the argument ``batch_to_waveforms=`` and shows the structure.

    Example:
        >>> import torch
        >>> batch = {"input_values": torch.ones(2, 800), "labels": torch.tensor([3, 1])}
        >>> samples, lengths, groups = waveforms_in_batch(batch)
        >>> samples.shape, lengths
        (torch.Size([2, 800]), tensor([800, 800]))
        >>> batch = {"mel": torch.ones(2, 90, 40), "mel_lengths": torch.tensor([90, 70])}
        >>> waveforms_in_batch(batch, Layout(time_dim=1)).lengths
        tensor([90, 70])
    """
    leaves = list(_leaves(batch))
    if layout.time_dim is not None and not _candidates(leaves, layout):
        leaves = list(_leaves(batch, layout))  # lists of sequences: only now, for 2-D tensors are many things
    samples = _choose(batch, leaves, layout)
    return check_waveforms(Waveforms(samples, _lengths_beside(samples, leaves, layout)), batch, layout)


def check_waveforms(
    found: Tensor | Waveforms | tuple[Any, ...], batch: Any, layout: Layout = WAVEFORMS
) -> Waveforms:
    """Check what was found in (or given for) a batch and fill in the lengths where they are unknown.

    Raises:
        UnknownStructureError: If the samples are not mono waveforms (or sequences of the ``layout``), or the
            lengths or groups do not fit.
    """
    waveforms = Waveforms(found) if isinstance(found, Tensor) else Waveforms(*found)
    samples, lengths, groups = waveforms
    if not isinstance(samples, Tensor) or not samples.is_floating_point() or not layout.fits(samples):
        wanted = "mono waveforms" if layout.time_dim is None else layout.what
        raise UnknownStructureError(
            f"`batch_to_waveforms` must give {wanted}, a floating-point tensor of shape {layout.shapes}, got "
            f"{_describe_leaf(samples)}.{_advice(samples, layout)}\nThe batch is\n{describe_structure(batch)}"
        )
    num_rows = samples.shape[0]
    if lengths is None:
        lengths = _length_without_trailing_zeros(layout.frames(samples))
    for name, value in (("lengths", lengths), ("groups", groups)):
        if value is not None and (value.shape != (num_rows,) or value.is_floating_point()):
            raise UnknownStructureError(
                f"`batch_to_waveforms` must give `{name}` as integers of shape ({num_rows},), one for each "
                f"row of the {layout.what}, got {_describe_leaf(value)}."
            )
    return Waveforms(samples, lengths.to(torch.int64).clamp(0, layout.length(samples)), groups)


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


def _leaves(node: Any, layout: Layout = WAVEFORMS, path: str = "", name: str = "") -> Iterator[_Leaf]:
    """The parts of a batch; lists of single utterances of the ``layout`` as one, padded."""
    if isinstance(node, (list, tuple)) and node and _are_single_utterances(node, layout):
        rows = [item.T if layout.time_dim == 2 else item for item in node]
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        lengths = torch.tensor([len(row) for row in rows], device=padded.device)
        yield _Leaf(path, name, padded.transpose(1, 2) if layout.time_dim == 2 else padded)
        yield _Leaf(path, "lengths", lengths)
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from _leaves(value, layout, f"{path}[{key!r}]", str(key).lower())
    elif isinstance(node, tuple) and hasattr(node, "_fields"):
        for field in node._fields:
            yield from _leaves(getattr(node, field), layout, f"{path}.{field}", field.lower())
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from _leaves(value, layout, f"{path}[{index}]", name)
    elif dataclasses.is_dataclass(node) and not isinstance(node, type):
        for spec in dataclasses.fields(node):
            yield from _leaves(getattr(node, spec.name), layout, f"{path}.{spec.name}", spec.name.lower())
    else:
        yield _Leaf(path, name, node)


def _are_single_utterances(items: Sequence[Any], layout: Layout) -> bool:
    if not all(isinstance(item, Tensor) and item.is_floating_point() for item in items):
        return False
    if layout.time_dim is None:
        return all(item.ndim == 1 and len(item) >= _SHORTEST_WAVEFORM for item in items)
    widths = {item.shape[2 - layout.time_dim] if item.ndim == 2 else None for item in items}
    return len(widths) == 1 and None not in widths


def _candidates(leaves: list[_Leaf], layout: Layout) -> list[_Leaf]:
    """What looks like utterances, whatever else it could be."""
    shortest = _SHORTEST_WAVEFORM if layout.time_dim is None else 1
    return [
        leaf
        for leaf in leaves
        if isinstance(leaf.value, Tensor)
        and leaf.value.is_floating_point()
        and layout.fits(leaf.value)
        and layout.length(leaf.value) >= shortest
        and leaf.name not in (*_MASK_NAMES, *_PADDING_NAMES)
    ]


def _choose(batch: Any, leaves: list[_Leaf], layout: Layout) -> Tensor:
    candidates = _candidates(leaves, layout)
    if len(candidates) != 1:
        # The names stand in the order of how sure they are: the first that occurs decides.
        names = _WAVEFORM_NAMES if layout.time_dim is None else _SEQUENCE_NAMES
        ranks = [names.index(leaf.name) for leaf in candidates if leaf.name in names]
        if ranks:
            candidates = [leaf for leaf in candidates if leaf.name == names[min(ranks)]]
    if len(candidates) == 1:
        return candidates[0].value
    advice = next((text for leaf in leaves if (text := _advice(leaf.value, layout))), "")
    raise UnknownStructureError(
        f"Cannot tell which part of the validation batch holds the {layout.what}: expected one floating-point "
        f"tensor of shape {layout.shapes}, found {len(candidates) or 'none'} in\n"
        f"{describe_structure(batch)}\n"
        f"Pass `batch_to_waveforms=`, a function of the batch that returns the {layout.what}, or the "
        f"{layout.what}, their lengths and their groups.{advice}"
    )


def _advice(value: Any, layout: Layout) -> str:
    """What to change where ``value`` is of the other layout."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return ""
    if layout.time_dim is None and value.ndim == 3 and value.shape[1] > 1:
        return " Feature sequences need `time_dim=`: 1 for (B, T, F), -1 for (B, F, T)."
    if layout.time_dim is not None and WAVEFORMS.fits(value) and value.shape[-1] >= _SHORTEST_WAVEFORM:
        return " For waveforms leave `time_dim` at None."
    return ""


def _lengths_beside(samples: Tensor, leaves: list[_Leaf], layout: Layout) -> Tensor | None:
    """Lengths ``(B,)`` that the batch gives for ``samples``, the surest source first."""
    num_rows, num_samples = samples.shape[0], layout.length(samples)
    names = _LENGTH_NAMES if layout.time_dim is None else _SEQUENCE_LENGTH_NAMES
    tensors = [leaf for leaf in leaves if isinstance(leaf.value, Tensor) and leaf.value is not samples]
    vectors = [
        leaf._replace(value=leaf.value.reshape(num_rows))
        for leaf in tensors
        if leaf.value.shape in ((num_rows,), (num_rows, 1))
    ]
    masks = [leaf for leaf in tensors if leaf.value.shape == (num_rows, num_samples)]
    for _, name, value in vectors:
        if name in names and value.is_floating_point() and _within(value, 0, 1):
            return (value * num_samples).round().long()  # shares of the longest
        if name in names and not value.is_floating_point() and _within(value, 0, num_samples):
            return value
    for leaf in masks:
        if leaf.name in _MASK_NAMES:
            return _length_of_prefix(leaf.value != 0, leaf.path, layout)
        if leaf.name in _PADDING_NAMES:
            return _length_of_prefix(leaf.value == 0, leaf.path, layout)
    for _, _, value in vectors:
        # Class labels do not reach up to just the number of samples; to that of frames they may.
        is_integer = value.dtype in (torch.int32, torch.int64)
        reaches_the_end = is_integer and _within(value, 1, num_samples) and int(value.max()) == num_samples
        if reaches_the_end and (layout.time_dim is None or _is_padding_behind(layout.frames(samples), value)):
            return value
    for leaf in masks:
        if leaf.name == "" and leaf.value.dtype == torch.bool:
            # It says which samples are sound or which are padding: the first column tells.
            starts_valid = bool(leaf.value[:, 0].all())
            return _length_of_prefix(leaf.value if starts_valid else ~leaf.value, leaf.path, layout)
    return None


def _is_padding_behind(frames: Tensor, lengths: Tensor) -> bool:
    """Whether all of ``(B, T, F)`` that lies behind the ``lengths`` ``(B,)`` is one value."""
    behind = frames[torch.arange(frames.shape[1], device=frames.device) >= lengths.to(frames.device)[:, None]]
    return behind.numel() == 0 or bool((behind == behind.flatten()[0]).all())


def _within(value: Tensor, low: int, high: int) -> bool:
    return bool((value >= low).all()) and bool((value <= high).all())


def _length_of_prefix(valid: Tensor, path: str, layout: Layout) -> Tensor:
    lengths = valid.sum(dim=1)
    if not bool((valid == (torch.arange(valid.shape[1], device=valid.device) < lengths[:, None])).all()):
        raise UnknownStructureError(
            f"batch{path} was read as a mask of padding, but its rows are not sound first and padding "
            f"behind. Pass `batch_to_waveforms=`, a function of the batch that returns the {layout.what} and "
            "their lengths."
        )
    return lengths


def _length_without_trailing_zeros(frames: Tensor) -> Tensor:
    sound = (frames != 0).any(dim=2)
    last = sound.shape[1] - sound.flip(1).to(torch.uint8).argmax(dim=1)
    return torch.where(sound.any(dim=1), last, 0)
