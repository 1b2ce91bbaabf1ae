"""Masks of padding: what lies under a value decides whether it is sound, and the name if that leaves it open."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_mi.inputs.layout import Layout
from lightning_mi.inputs.structure import Leaf, UnknownStructureError

_KNOWN = ("attention_mask", "mask", "padding_mask")


def is_mask_name(name: str) -> bool:
    """Whether a name is that of a mask, such as ``padding_mask``, and not of what was masked."""
    return not {"mask", "masks"}.isdisjoint(name.split("_"))


def lengths_by_mask(leaf: Leaf, frames: Tensor, ends: Tensor, layout: Layout) -> Tensor | None:
    """Lengths ``(B,)`` by a mask ``(B, T)``, of which one value is sound and the other the padding behind it.

    transformers' ``attention_mask`` and the ``padding_mask`` of its codecs are 1 for sound, fairseq's
    ``padding_mask`` is True for padding. The reading whose padding holds one value throughout is taken. If neither
    is, which happens with padding that is not constant, the name decides.

    Args:
        leaf: The mask.
        frames: ``(B, T, F)``, what it belongs to.
        ends: ``(B,)``, where the constant tail of each row begins.
        layout: Layout of the utterances.

    Returns:
        ``(B,)`` int64; ``None`` if it is no mask of padding and has no name of one.

    Raises:
        UnknownStructureError: (a ValueError) if a mask of a usual name is not sound first and padding behind.

    Example:
        >>> from lightning_mi.inputs.layout import WAVEFORMS
        >>> frames = torch.tensor([[3.0, 1.0, 0.0, 0.0], [1.0, 2.0, 3.0, 4.0]])[..., None]
        >>> for mask in torch.tensor([[1, 1, 0, 0], [1] * 4]), torch.tensor([[0, 0, 1, 1], [0] * 4]):
        ...     lengths_by_mask(Leaf("", "padding_mask", mask), frames, torch.tensor([2, 4]), WAVEFORMS)
        tensor([2, 4])
        tensor([2, 4])
    """
    is_one = leaf.value.reshape(frames.shape[:2]).to(frames.device) != 0
    readings = {True: _length_of_prefix(is_one), False: _length_of_prefix(~is_one)}  # by whether 1 is sound
    prefers = "pad" not in leaf.name or "attention" in leaf.name
    order = (prefers, not prefers)
    for one_is_sound in order:
        lengths = readings[one_is_sound]
        if lengths is not None and bool((lengths >= ends).all()):
            return lengths
    is_known = leaf.name in _KNOWN or (leaf.name == "" and leaf.value.dtype == torch.bool)
    if not is_known:
        return None
    # No reading has constant padding. If the name says what 1 is, the other reading is padding at the start.
    for one_is_sound in order[:1] if "attention" in leaf.name else order:
        lengths = readings[one_is_sound]
        if lengths is not None and not _begins_constant(frames, lengths):
            return lengths
    raise UnknownStructureError(
        f"batch{leaf.path} was read as a mask of padding, but its rows are not valid values first and "
        "padding behind. Pad at the end, or pass `batch_to_waveforms=`, a function of the batch that returns the "
        f"{layout.what} and their lengths."
    )


def _length_of_prefix(valid: Tensor) -> Tensor | None:
    """Number of True ``(B,)`` in rows ``(B, T)`` that are True first and False behind; else ``None``."""
    lengths = valid.sum(dim=1)
    is_prefix = valid == (torch.arange(valid.shape[1], device=valid.device) < lengths[:, None])
    return lengths if bool(is_prefix.all()) else None


def _begins_constant(frames: Tensor, lengths: Tensor) -> bool:
    """Whether some row is of one value over its whole length, though more follows: padding at the start."""
    inside = torch.arange(frames.shape[1], device=frames.device) < lengths[:, None]
    changes = ((frames != frames[:, :1]).any(dim=2) & inside).any(dim=1)
    return bool((~changes & (lengths < frames.shape[1])).any())
