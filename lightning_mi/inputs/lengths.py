"""True lengths of padded utterances: from lengths and masks in the batch, else from a tail of one value."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_mi.inputs.layout import Layout
from lightning_mi.inputs.masks import is_mask_name, lengths_by_mask
from lightning_mi.inputs.structure import Leaf, UnknownStructureError, vectors

_WORDS = ("len", "lens", "length", "lengths", "ilens", "duration", "durations", "seconds")
_COUNTED = ("samples", "frames")
_OF_SOMETHING_ELSE = (
    *(
        "text",
        "texts",
        "label",
        "labels",
        "target",
        "targets",
        "tgt",
        "token",
        "tokens",
        "transcript",
        "transcripts",
    ),
    *("phone", "phones", "phoneme", "phonemes", "char", "chars", "word", "words", "y", "output", "out", "olens"),
    *("max", "min", "hop", "win", "window", "segment", "chunk", "prompt", "query", "unit", "units"),
)
_SHORTEST_TAIL = 32  # equal values at the end of a waveform; fewer occur in sound of few bits
_SHARE_OF_ALL = 0.999  # what the longest has at least of lengths that are shares of it


def lengths_in_batch(
    samples: Tensor, leaves: Sequence[Leaf], layout: Layout, sample_rate: float | None = None
) -> Tensor | None:
    """Lengths ``(B,)`` that a batch gives for its utterances, the most explicit source first.

    Numbers with the name of lengths come first, those beside the utterances before others: in samples (frames), as
    shares of the longest, in seconds, or in any other unit, such as frames of features, if what lies behind each
    row agrees. Then comes a mask with the name of one, then a nameless integer tensor whose largest value is T,
    then a nameless boolean mask.

    Args:
        samples: The utterances in the batch, ``(B, T)``, ``(B, 1, T)`` or feature sequences.
        leaves: All leaves of the batch.
        layout: Layout of ``samples``.
        sample_rate: Samples (frames) a second, for lengths in seconds.

    Returns:
        ``(B,)`` integers in samples (frames); ``None`` if the batch gives no lengths.

    Raises:
        UnknownStructureError: (a ValueError) if a mask is not valid values first and padding behind, or numbers
            that are called lengths differ and cannot be any.

    Example:
        >>> import torch
        >>> from lightning_mi.inputs.layout import WAVEFORMS
        >>> samples = torch.ones(2, 800)
        >>> lengths_in_batch(samples, [Leaf("['wav_lens']", "wav_lens", torch.tensor([1.0, 0.5]))], WAVEFORMS)
        tensor([800, 400])
    """
    num_rows, num_samples = samples.shape[0], layout.length(samples)
    frames = layout.frames(samples)
    ends = constant_tails(frames)
    home = next((leaf.parent for leaf in leaves if leaf.value is samples), None)
    others = [leaf for leaf in leaves if leaf.value is not samples]
    columns = [leaf._replace(value=leaf.value.to(samples.device)) for leaf in vectors(others, num_rows)]
    named = sorted((leaf for leaf in columns if _is_length_name(leaf.name)), key=lambda leaf: leaf.parent != home)
    readings = [_read(leaf.value, num_samples, ends, sample_rate) for leaf in named]
    for wanted in (True, False):
        for lengths, is_sure in readings:
            if lengths is not None and is_sure == wanted:
                return lengths
    shapes = ((num_rows, num_samples), (num_rows, 1, num_samples), (num_rows, num_samples, 1))
    masks = [leaf for leaf in others if isinstance(leaf.value, Tensor) and leaf.value.shape in shapes]
    for leaf in masks:
        if is_mask_name(leaf.name) and (lengths := lengths_by_mask(leaf, frames, ends, layout)) is not None:
            return lengths
    for leaf in named:
        if leaf.value.unique().numel() > 1 and bool(
            (leaf.value < num_samples).all() & (ends == num_samples).all()
        ):
            raise UnknownStructureError(
                f"batch{leaf.path} is called {leaf.name!r}, but its values, {_range(leaf.value)}, are no lengths "
                f"of the {layout.what} of {num_samples} values beside it, in no unit that fits. Pass "
                f"`batch_to_waveforms=`, a function of the batch that returns the {layout.what} and their lengths."
            )
    for _, name, value in columns:
        if not set(_words(name)).isdisjoint(_OF_SOMETHING_ELSE):
            continue
        # Class labels do not reach up to just the number of samples; to that of frames they may.
        is_integer = value.dtype in (torch.int32, torch.int64)
        reaches_the_end = is_integer and _within(value, 1, num_samples) and int(value.max()) == num_samples
        if reaches_the_end and (layout.time_dim is None or _is_padding_behind(frames, value)):
            return value
    for leaf in masks:
        if leaf.name == "" and leaf.value.dtype == torch.bool:
            return lengths_by_mask(leaf, frames, ends, layout)
    return None


def lengths_without_padding(frames: Tensor) -> Tensor:
    """Lengths ``(B,)`` int64 of ``frames`` ``(B, T, F)`` without trailing zeros or a tail of another value.

    Such tails come from features of zeros, or from zeros that were normalised with the sound before them. Of one
    value a frame, less than 32 in a row are no padding. A row of one value other than 0 keeps its length.

    Example:
        >>> sound = torch.arange(8.0)[None, :, None].expand(1, 8, 2).clone()
        >>> sound[:, 5:] = -1.5
        >>> lengths_without_padding(sound)
        tensor([5])
    """
    without_zeros = lengths_without_trailing_zeros(frames)
    ends, num_frames = constant_tails(frames), frames.shape[1]
    shortest = _SHORTEST_TAIL if frames.shape[2] == 1 else 2
    is_padded = (ends > 0) & (num_frames - ends >= shortest)
    return torch.where(is_padded, torch.minimum(ends, without_zeros), without_zeros)


def lengths_without_trailing_zeros(frames: Tensor) -> Tensor:
    """Lengths ``(B,)`` int64 of ``frames`` ``(B, T, F)`` up to the last frame that is not exactly zero.

    Example:
        >>> import torch
        >>> lengths_without_trailing_zeros(torch.tensor([[[1.0], [0.0]], [[0.0], [0.0]], [[0.0], [2.0]]]))
        tensor([1, 0, 2])
    """
    return _lengths_up_to_last((frames != 0).any(dim=2))


def constant_tails(frames: Tensor) -> Tensor:
    """Where the frames at the end that are equal begin, ``(B,)`` int64: T if the last differs from that before.

    Example:
        >>> constant_tails(torch.tensor([[1.0, 2.0, 3.0], [1.0, 5.0, 5.0], [0.0, 0.0, 0.0]])[..., None])
        tensor([3, 1, 0])
    """
    ends = _lengths_up_to_last((frames != frames[:, -1:]).any(dim=2))
    num_frames = frames.shape[1]
    return torch.where((ends == num_frames - 1) & (num_frames > 1), num_frames, ends)


def _read(value: Tensor, num_samples: int, ends: Tensor, sample_rate: float | None) -> tuple[Tensor | None, bool]:
    """Numbers ``(B,)`` called lengths, in samples, and whether that is sure; ``None`` if they are none."""
    number = value.double()
    if not bool(torch.isfinite(number).all() & (number >= 0).all()) or float(number.max()) == 0:
        return None, False
    highest = float(number.max())

    def agrees(lengths: Tensor) -> bool:
        return bool((lengths <= num_samples).all() & (lengths >= ends).all())

    is_whole = bool((number == number.round()).all())
    as_samples = number.round().long()
    if is_whole and highest > 1 and (int(highest) == num_samples or agrees(as_samples)):
        return as_samples, True
    seconds = (number * (sample_rate or 0)).round().long()
    reach = abs(int(seconds.max()) - num_samples) <= max(1, 0.005 * num_samples)
    is_share, shares = value.is_floating_point() and highest <= 1, (number * num_samples).round().long()
    if is_share and highest >= _SHARE_OF_ALL:
        return shares, True
    if sample_rate is not None and reach:
        return seconds.clamp(max=num_samples), True
    if is_share:
        return shares, agrees(shares)
    # Of whatever unit: the longest fills the batch, and the others end where the sound does.
    unit = num_samples / highest
    rough = number * unit
    tolerance = 2 * max(unit, 1) if is_whole else 0.02 * num_samples
    if bool(((rough - ends).abs() <= max(tolerance, 2)).all()) and 2 * tolerance < num_samples:
        return ends, True
    if is_whole and num_samples / 2 <= highest <= num_samples:
        return as_samples, False  # what lies behind is not constant, and they are all that is said of it
    return None, False


def _is_length_name(name: str) -> bool:
    words = _words(name)
    if not set(words).isdisjoint(_OF_SOMETHING_ELSE):
        return False
    counts = {"num", "n", "nb"} & set(words[:-1]) and words[-1] in _COUNTED
    return bool(counts) or words[-1] in _WORDS or words[-1].endswith(("lens", "length", "lengths"))


def _words(name: str) -> list[str]:
    return name.replace("-", "_").replace(".", "_").split("_")


def _lengths_up_to_last(is_inside: Tensor) -> Tensor:
    """Number of frames up to the last that is True in ``(B, T)``; 0 if none is."""
    last = is_inside.shape[1] - is_inside.flip(1).to(torch.uint8).argmax(dim=1)
    return torch.where(is_inside.any(dim=1), last, 0)


def _is_padding_behind(frames: Tensor, lengths: Tensor) -> bool:
    """Whether all of ``(B, T, F)`` that lies behind the ``lengths`` ``(B,)`` is one value."""
    behind = frames[torch.arange(frames.shape[1], device=frames.device) >= lengths.to(frames.device)[:, None]]
    return behind.numel() == 0 or bool((behind == behind.flatten()[0]).all())


def _within(value: Tensor, low: int, high: int) -> bool:
    return bool((value >= low).all()) and bool((value <= high).all())


def _range(value: Tensor) -> str:
    return f"{float(value.min()):g} to {float(value.max()):g}"
