"""Waveforms (or feature sequences) in a validation batch of any structure, with their true lengths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_mi.inputs.layout import WAVEFORMS, Layout
from lightning_mi.inputs.lengths import lengths_in_batch, lengths_without_padding
from lightning_mi.inputs.masks import is_mask_name
from lightning_mi.inputs.structure import (
    SHORTEST_WAVEFORM,
    Leaf,
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


class Waveforms(NamedTuple):
    """Utterances of one batch; ``batch_to_waveforms`` may return this in place of a tensor.

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


def read_waveforms(
    batch: Any, layout: Layout = WAVEFORMS, batch_to_waveforms: Callable[[Any], Any] | None = None
) -> Waveforms:
    """Waveforms of a batch, by the user's ``batch_to_waveforms`` if there is one, else :func:`waveforms_in_batch`.

    Raises:
        UnknownStructureError: (a ValueError) if they are not found or are no waveforms.

    Example:
        >>> import torch
        >>> read_waveforms({"a": torch.ones(2, 800)}, batch_to_waveforms=lambda batch: batch["a"]).lengths
        tensor([800, 800])
    """
    if batch_to_waveforms is None:
        return waveforms_in_batch(batch, layout)
    return check_waveforms(batch_to_waveforms(batch), batch, layout)


def waveforms_in_batch(batch: Any, layout: Layout = WAVEFORMS) -> Waveforms:
    """Find the waveforms in a batch, and their lengths if it gives them.

    Supported are a tensor; tuples, lists, namedtuples, dataclasses and mappings of tensors, nested ones
    too; a list of 1-D waveforms. A floating-point tensor of shape ``(B, T)`` or ``(B, 1, T)`` is a waveform;
    if there are several, the names of mapping keys and fields decide (``input_values``, ``waveforms``,
    ``audio``, ``wav``, ``speech``, ...). Lengths come from a tensor of such a name (``lengths``,
    ``wav_lens``, ...; in samples, or as shares of the longest), from an attention or padding mask of the
    waveform's shape, or from a nameless integer tensor whose largest value is T.

    Feature sequences are found the same way: a 3-D floating-point tensor, or a list of 2-D ones; names such as
    ``input_features``, ``features``, ``mel`` or ``eeg``; lengths such as ``feature_lengths``, in frames; a mask
    ``(B, T)``. A nameless integer tensor is their lengths only if all values behind them are equal, since
    class labels may reach up to T.

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
    parts = list(leaves(batch))
    if layout.time_dim is not None and not _candidates(parts, layout):
        parts = list(leaves(batch, layout))  # lists of sequences only now, since 2-D tensors are many things
    samples = _choose(batch, parts, layout)
    return check_waveforms(Waveforms(samples, lengths_in_batch(samples, parts, layout)), batch, layout)


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
        raise UnknownStructureError(
            "`batch_to_waveforms` must return a tensor of samples, or a tuple (samples, lengths) or (samples, "
            f"lengths, groups), got {describe_leaf(found)}.\nThe batch is\n{describe_structure(batch)}"
        )
    samples, lengths, groups = Waveforms(*parts)
    if not isinstance(samples, Tensor) or not samples.is_floating_point() or not layout.fits(samples):
        wanted = "mono waveforms" if layout.time_dim is None else layout.what
        raise UnknownStructureError(
            f"`batch_to_waveforms` must give {wanted}, a floating-point tensor of shape {layout.shapes}, got "
            f"{describe_leaf(samples)}.{_advice(samples, layout)}\nThe batch is\n{describe_structure(batch)}"
        )
    num_rows = samples.shape[0]
    if lengths is None:
        lengths = lengths_without_padding(layout.frames(samples))
    for name, value in (("lengths", lengths), ("groups", groups)):
        if value is not None and (value.shape != (num_rows,) or value.is_floating_point()):
            raise UnknownStructureError(
                f"`batch_to_waveforms` must give `{name}` as integers of shape ({num_rows},), one for each "
                f"row of the {layout.what}, got {describe_leaf(value)}."
            )
    return Waveforms(samples, lengths.to(torch.int64).clamp(0, layout.length(samples)), groups)


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
    advice = next((text for leaf in parts if (text := _advice(leaf.value, layout))), "")
    raise UnknownStructureError(
        f"Cannot tell which part of the validation batch holds the {layout.what}: expected one floating-point "
        f"tensor of shape {layout.shapes}, found {len(candidates) or 'none'} in\n"
        f"{describe_structure(batch)}\n"
        f"Pass `batch_to_waveforms=`, a function of the batch that returns the {layout.what}, or the "
        f"{layout.what}, their lengths and their groups.{advice}"
    )


def _advice(value: Any, layout: Layout) -> str:
    """What to change if ``value`` is of the other layout."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return ""
    if layout.time_dim is None and value.ndim == 3 and value.shape[1] > 1:
        return " Feature sequences need `time_dim=`: 1 for (B, T, F), -1 for (B, F, T)."
    if layout.time_dim is not None and WAVEFORMS.fits(value) and value.shape[-1] >= SHORTEST_WAVEFORM:
        return " For waveforms leave `time_dim` at None."
    return ""
