"""Waveforms (or feature sequences) in a validation batch of any structure, with their true lengths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_mi.inputs.layout import WAVEFORMS, Layout
from lightning_mi.inputs.lengths import lengths_in_batch, lengths_without_padding
from lightning_mi.inputs.masks import is_mask_name
from lightning_mi.inputs.rates import rates_in_batch
from lightning_mi.inputs.speakers import speakers_in_batch
from lightning_mi.inputs.structure import (
    SHORTEST_WAVEFORM,
    Leaf,
    NoUtterancesError,
    UnknownStructureError,
    describe_leaf,
    describe_structure,
    leaves,
)

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


_MOST_CHANNELS = 8  # of a recording; more are features


class Waveforms(NamedTuple):
    """Utterances of one batch; ``batch_to_waveforms`` may return this in place of a tensor.

    Attributes:
        samples: ``(B, T)`` or ``(B, 1, T)``, padded at the end; with ``time_dim`` feature sequences, ``(B, T, F)``
            or ``(B, F, T)``.
        lengths: ``(B,)`` integers, the true length of each row in samples (frames), or floating-point shares of T,
            from 0 to 1. ``None``: trailing zeros, and a longer tail of another value, are padding.
        groups: ``(B,)`` integers, the group (speaker, session) of each row, whose pairs stay on one side of
            the split. ``None``: the speakers if the batch names them
            (:func:`lightning_mi.inputs.speakers.speakers_in_batch`), else each utterance is its own group.
    """

    samples: Tensor
    lengths: Tensor | None = None
    groups: Tensor | None = None


class ReadBatch(NamedTuple):
    """What :func:`read_batch` found.

    Attributes:
        waveforms: The utterances.
        rates: ``(B,)`` float64 on the host, the sampling rates that the batch gives them, in Hz; ``None`` if it
            gives none, and of feature sequences.
        speakers: ``(B,)`` int64 on the host, the speakers that the batch names; ``None`` if it names none, or if
            the user's function gives groups.
    """

    waveforms: Waveforms
    rates: Tensor | None = None
    speakers: Tensor | None = None


def read_batch(
    batch: Any,
    layout: Layout = WAVEFORMS,
    batch_to_waveforms: Callable[[Any], Any] | None = None,
    sample_rate: float | None = None,
) -> ReadBatch:
    """Waveforms of a batch, by the user's ``batch_to_waveforms`` if there is one, else :func:`waveforms_in_batch`.

    Args:
        batch: A batch of the validation dataloader.
        layout: Layout of the utterances.
        batch_to_waveforms: The user's function.
        sample_rate: Samples (frames) a second, to read lengths in seconds.

    Raises:
        UnknownStructureError: (a ValueError) if they are not found or are no waveforms.

    Example:
        >>> import torch
        >>> read_batch({"a": torch.ones(2, 800)}, batch_to_waveforms=lambda batch: batch["a"]).waveforms.lengths
        tensor([800, 800])
        >>> read_batch({"a": torch.ones(2, 800), "sr": 8000}).rates
        tensor([8000., 8000.], dtype=torch.float64)
    """
    if batch_to_waveforms is None:
        parts = _walk(batch, layout)
        samples = _choose(batch, parts, layout)
        lengths = lengths_in_batch(samples, parts, layout, sample_rate)
        waveforms = check_waveforms(Waveforms(samples, lengths), batch, layout)
    else:
        found = batch_to_waveforms(batch)
        if found is None:
            raise NoUtterancesError(_no_tensor(found, batch))
        waveforms, parts = check_waveforms(found, batch, layout), list(leaves(batch))
    rates = rates_in_batch(waveforms.samples, parts) if layout.time_dim is None else None
    speakers = speakers_in_batch(parts, len(waveforms.samples)) if waveforms.groups is None else None
    return ReadBatch(waveforms, rates, speakers)


def waveforms_in_batch(batch: Any, layout: Layout = WAVEFORMS) -> Waveforms:
    """Find the waveforms in a batch, and their lengths if it gives them.

    Supported are a tensor; tuples, lists, namedtuples, dataclasses, mappings and objects of tensors (arrays of
    numpy), nested ones too; a list of waveforms ``(T,)`` or ``(1, T)``, or of rows that each hold one. A
    floating-point tensor of shape ``(B, T)`` or ``(B, 1, T)`` is a waveform; if there are several, the names of
    mapping keys and fields decide (``input_values``, ``waveforms``, ``audio``, ``wav``, ``speech``, ...).
    Lengths are those of :func:`lightning_mi.inputs.lengths.lengths_in_batch`.

    Feature sequences are found the same way: a 3-D floating-point tensor, or a list of 2-D ones; names such as
    ``input_features``, ``features``, ``mel`` or ``eeg``; lengths in frames; a mask ``(B, T)``. A nameless integer
    tensor is their lengths only if all values behind them are equal, since class labels may reach up to T.

    Args:
        batch: A batch of the validation dataloader.
        layout: Layout of the utterances.

    Returns:
        The waveforms, with ``(B, T)`` or ``(B, 1, T)`` samples (feature sequences in their own layout) and
        ``(B,)`` int64 lengths (never ``None``).

    Raises:
        UnknownStructureError: (a ValueError) if no waveform, or more than one, is found; the message
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
    return read_batch(batch, layout).waveforms


def check_waveforms(
    found: Tensor | Waveforms | tuple[Any, ...], batch: Any, layout: Layout = WAVEFORMS
) -> Waveforms:
    """Check the waveforms found in (or given for) a batch, and fill in their lengths if they are unknown.

    Raises:
        UnknownStructureError: If the samples are not mono waveforms (or sequences of the ``layout``), or the
            lengths or groups do not fit.
    """
    parts = [found] if isinstance(found, Tensor) else found
    if not isinstance(parts, (tuple, list)) or not 1 <= len(parts) <= len(Waveforms._fields):
        raise UnknownStructureError(_no_tensor(found, batch))
    samples, lengths, groups = Waveforms(*parts)
    if not isinstance(samples, Tensor) or not samples.is_floating_point() or not layout.fits(samples):
        wanted = "mono waveforms" if layout.time_dim is None else layout.what
        raise UnknownStructureError(
            f"`batch_to_waveforms` must give {wanted}, a floating-point tensor of shape {layout.shapes}, got "
            f"{describe_leaf(samples)}.{_advice(samples, layout, 'x')}\nThe batch is\n{describe_structure(batch)}"
        )
    num_rows = samples.shape[0]
    if lengths is None:
        lengths = lengths_without_padding(layout.frames(samples))
    elif (
        isinstance(lengths, Tensor)
        and lengths.is_floating_point()
        and bool(((lengths >= 0) & (lengths <= 1)).all())
    ):
        lengths = (lengths.double() * layout.length(samples)).round().long()  # shares of the longest
    for name, value in (("lengths", lengths), ("groups", groups)):
        is_tensor = isinstance(value, Tensor)
        if value is not None and (not is_tensor or value.shape != (num_rows,) or value.is_floating_point()):
            shares = " (or shares of T, from 0 to 1)" if name == "lengths" else ""
            raise UnknownStructureError(
                f"`batch_to_waveforms` must give `{name}` as integers of shape ({num_rows},){shares}, one for "
                f"each row of the {layout.what}, got {describe_leaf(value)}."
            )
    return Waveforms(samples, lengths.to(torch.int64).clamp(0, layout.length(samples)), groups)


def _no_tensor(found: Any, batch: Any) -> str:
    return (
        "`batch_to_waveforms` must return a tensor of samples, or a tuple (samples, lengths) or (samples, "
        f"lengths, groups), got {describe_leaf(found)}.\nThe batch is\n{describe_structure(batch)}"
    )


def _walk(batch: Any, layout: Layout) -> Sequence[Leaf]:
    parts = list(leaves(batch))
    if layout.time_dim is not None and not _candidates(parts, layout):
        parts = list(leaves(batch, layout))  # lists of sequences only now, since 2-D tensors are many things
    return parts


def _candidates(parts: Sequence[Leaf], layout: Layout) -> Sequence[Leaf]:
    """What looks like utterances, whatever else it could be."""
    shortest = SHORTEST_WAVEFORM if layout.time_dim is None else 1
    return [
        leaf
        for leaf in parts
        if isinstance(leaf.value, Tensor)
        and leaf.value.is_floating_point()
        and layout.fits(leaf.value)
        and layout.length(leaf.value) >= shortest
        and not is_mask_name(leaf.name)
    ]


def _choose(batch: Any, parts: Sequence[Leaf], layout: Layout) -> Tensor:
    candidates = _candidates(parts, layout)
    if len(candidates) != 1:
        # The names stand in the order of how sure they are: the first that occurs decides.
        names = _WAVEFORM_NAMES if layout.time_dim is None else _SEQUENCE_NAMES
        ranks = [names.index(leaf.name) for leaf in candidates if leaf.name in names]
        if ranks:
            candidates = [leaf for leaf in candidates if leaf.name == names[min(ranks)]]
    if len(candidates) == 1:
        return candidates[0].value
    advice = next((text for leaf in parts if (text := _advice(leaf.value, layout, f"batch{leaf.path}"))), "")
    advice = advice or _advice_on_rows(parts, layout)
    is_other_data = not candidates and not any(_is_long(leaf.value) for leaf in parts)
    raise (NoUtterancesError if is_other_data else UnknownStructureError)(
        f"Cannot tell which part of the validation batch holds the {layout.what}: expected one floating-point "
        f"tensor of shape {layout.shapes}, found {len(candidates) or 'none'} in\n"
        f"{describe_structure(batch)}\n"
        f"Pass `batch_to_waveforms=`, a function of the batch that returns the {layout.what}, or the "
        f"{layout.what}, their lengths and their groups.{advice}"
    )


def _advice(value: Any, layout: Layout, path: str) -> str:
    """What to change if ``value``, which is reached by ``path``, is of another layout."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return ""
    if layout.time_dim is None and value.ndim == 3:
        channels, length = sorted(value.shape[1:])
        if length >= SHORTEST_WAVEFORM and channels <= _MOST_CHANNELS:
            dim = 1 if value.shape[1] == channels else -1
            mix, what = f".mean({dim})", f"{channels} channels: mix them"
            if channels == 1:
                mix, what = "[..., 0]", "one channel, which stands last: drop it"
            function = f"lambda x: x{mix}" if path == "x" else f"batch_to_waveforms=lambda batch: {path}{mix}"
            return f" The waveforms of shape {tuple(value.shape)} have {what}, `{function}`."
        return " Feature sequences need `time_dim=`: 1 for (B, T, F), -1 for (B, F, T)."
    if layout.time_dim is not None and WAVEFORMS.fits(value) and value.shape[-1] >= SHORTEST_WAVEFORM:
        return " For waveforms leave `time_dim` at None."
    return ""


def _advice_on_rows(parts: Sequence[Leaf], layout: Layout) -> str:
    """What to change if the rows of a list have several channels."""
    rows = [leaf.value for leaf in parts if isinstance(leaf.value, Tensor) and leaf.value.is_floating_point()]
    shapes = {(row.ndim, min(row.shape)) for row in rows if row.ndim == 2 and max(row.shape) >= SHORTEST_WAVEFORM}
    if layout.time_dim is not None or len(rows) < 2 or len(shapes) != 1:
        return ""
    ((_, channels),) = shapes
    if not 1 < channels <= _MOST_CHANNELS:
        return ""
    dim = rows[0].shape.index(channels)
    return f" The rows have {channels} channels: mix each, `row.mean({dim})`, before they are collated."


def _is_long(value: Any) -> bool:
    """Whether it could be utterances of another dtype or layout."""
    return isinstance(value, Tensor) and value.ndim > 1 and max(value.shape[1:]) >= SHORTEST_WAVEFORM
