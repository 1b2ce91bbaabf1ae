"""True lengths of padded utterances: from lengths and masks in the batch, else from trailing zeros."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_mi.inputs.layout import Layout
from lightning_mi.inputs.structure import Leaf, UnknownStructureError

MASK_NAMES = ("attention_mask", "mask")
PADDING_MASK_NAMES = ("padding_mask",)
_WAVEFORM_LENGTH_NAMES = (
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


def lengths_in_batch(samples: Tensor, leaves: Sequence[Leaf], layout: Layout) -> Tensor | None:
    """Lengths ``(B,)`` that a batch gives for its utterances, the most explicit source first.

    A tensor with the name of lengths comes first, then a mask with the name of one, then a nameless integer tensor
    whose largest value is T, then a nameless boolean mask.

    Args:
        samples: The utterances in the batch, ``(B, T)``, ``(B, 1, T)`` or feature sequences.
        leaves: All leaves of the batch.
        layout: Layout of ``samples``.

    Returns:
        ``(B,)`` integers in samples (frames); ``None`` if the batch gives no lengths.

    Raises:
        UnknownStructureError: (a ValueError) if a mask is not valid values first and padding behind.

    Example:
        >>> import torch
        >>> from lightning_mi.inputs.layout import WAVEFORMS
        >>> samples = torch.ones(2, 800)
        >>> lengths_in_batch(samples, [Leaf("['wav_lens']", "wav_lens", torch.tensor([1.0, 0.5]))], WAVEFORMS)
        tensor([800, 400])
    """
    num_rows, num_samples = samples.shape[0], layout.length(samples)
    names = _WAVEFORM_LENGTH_NAMES if layout.time_dim is None else _SEQUENCE_LENGTH_NAMES
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
        if leaf.name in MASK_NAMES:
            return _length_of_prefix(leaf.value != 0, leaf.path, layout)
        if leaf.name in PADDING_MASK_NAMES:
            return _length_of_prefix(leaf.value == 0, leaf.path, layout)
    for _, _, value in vectors:
        # Class labels do not reach up to just the number of samples; to that of frames they may.
        is_integer = value.dtype in (torch.int32, torch.int64)
        reaches_the_end = is_integer and _within(value, 1, num_samples) and int(value.max()) == num_samples
        if reaches_the_end and (layout.time_dim is None or _is_padding_behind(layout.frames(samples), value)):
            return value
    for leaf in masks:
        if leaf.name == "" and leaf.value.dtype == torch.bool:
            # True is sound or padding: no row begins with padding.
            starts_valid = bool(leaf.value[:, 0].all())
            return _length_of_prefix(leaf.value if starts_valid else ~leaf.value, leaf.path, layout)
    return None


def lengths_without_trailing_zeros(frames: Tensor) -> Tensor:
    """Lengths ``(B,)`` int64 of ``frames`` ``(B, T, F)`` up to the last frame that is not exactly zero.

    Example:
        >>> import torch
        >>> lengths_without_trailing_zeros(torch.tensor([[[1.0], [0.0]], [[0.0], [0.0]], [[0.0], [2.0]]]))
        tensor([1, 0, 2])
    """
    sound = (frames != 0).any(dim=2)
    last = sound.shape[1] - sound.flip(1).to(torch.uint8).argmax(dim=1)
    return torch.where(sound.any(dim=1), last, 0)


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
            f"batch{path} was read as a mask of padding, but its rows are not valid values first and "
            "padding behind. Pass `batch_to_waveforms=`, a function of the batch that returns the "
            f"{layout.what} and their lengths."
        )
    return lengths
