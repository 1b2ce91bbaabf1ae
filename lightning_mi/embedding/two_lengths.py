"""Which dimension of an output is time: outputs for segments of two lengths, side by side.

The dimension that follows the number of segments holds the rows; the one that follows their length is time. What
is as long as the segment itself is a waveform and no embedding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_mi.embedding.outputs import (
    Dims,
    Location,
    Path,
    assumed_dims,
    at,
    describe_output,
    is_plain,
    locate,
    tensors_in,
)
from lightning_mi.inputs.layout import Layout
from lightning_mi.inputs.structure import UnknownStructureError

_MOST_WAVEFORM_FEATURES = 16  # sources, channels; an encoder has more


class OutputReader:
    """Reads the output of one layer, with that for segments of another length beside it.

    Args:
        rows: Number of segments, and that of the others.
        lengths: Their length in samples (frames), and that of the others; ``None`` if there are none.
        other: The output for the others.
        layout: Layout of the segments.

    Example:
        >>> output, other = torch.zeros(4, 8, 50), torch.zeros(6, 8, 100)
        >>> reader = OutputReader((4, 6), (400, 800), other, Layout())
        >>> reader.locate(output, "`forward`").dims
        Dims(batch=0, time=2, grows=True)
    """

    def __init__(self, rows: tuple[int, int], lengths: tuple[int, int | None], other: Any, layout: Layout) -> None:
        self._rows = rows
        self._lengths = lengths
        self._other = other
        self._of_waveforms = layout.time_dim is None
        self._waveforms: list[Tensor] = []

    def locate(self, output: Any, of: str) -> Location:
        """Where the embedding is.

        Raises:
            UnknownStructureError: If there is none, or it is ambiguous.
        """
        location = locate(output, self._dims)
        if location is not None:
            return location._replace(lengths=self._lengths_of_frames(output, location))
        advice = (
            "Pass `embed=`, the dotted name of a submodule or method, or a callable that returns (B, T, D) or "
            "(B, D), or `layers=`, the name of a layer."
        )
        if self._waveforms:
            raise UnknownStructureError(
                f"The output of {of} is as long as the segments of {self._lengths[0]} samples, so it is a "
                f"waveform (or a score a sample) and no embedding: got {describe_output(output)}. {advice}"
            )
        beside = ""
        if self._other is not None:
            beside = f", and for {self._rows[1]} of {self._lengths[1]} samples {describe_output(self._other)}"
        raise UnknownStructureError(
            f"Cannot tell which part of the output of {of} is the embedding: expected one tensor of shape "
            "(B, T, D), (B, D, T) or (B, D), a list of layers or a ModelOutput, got for "
            f"{self._rows[0]} segments of {self._lengths[0]} samples {describe_output(output)}{beside}. {advice}"
        )

    def _dims(self, path: Path, x: Tensor) -> Dims | None:
        if not is_plain(x) or not x.is_floating_point() or x.numel() == 0 or x.ndim < 2:
            return None
        other = at(self._other, path)
        dims = self._compared(x, other) if is_plain(other) else assumed_dims(self._rows[0])(path, x)
        if dims is not None and self._of_waveforms and self._is_waveform(x, dims):
            self._waveforms.append(x)
            return None
        return dims

    def _compared(self, x: Tensor, other: Tensor) -> Dims | None:
        if other.ndim != x.ndim:
            return None
        sizes = list(enumerate(zip(x.shape, other.shape, strict=True)))
        of_rows = [dim for dim, size in sizes if size == self._rows]
        if not of_rows:
            return None
        batch = of_rows[0]
        assert self._lengths[1] is not None
        longer = self._lengths[1] > self._lengths[0]
        others = [dim for dim, (a, b) in sizes if dim != batch and a != b]
        if not others:
            has_time = x.ndim == 3 and 1 not in x.shape[1:]
            return Dims(batch, 1 if has_time else None) if batch == 0 and x.ndim <= 3 else None
        if len(others) > 1 or (x.shape[others[0]] < other.shape[others[0]]) != longer:
            return None
        if x.ndim == 2:
            return Dims(batch, None, grows=True) if batch == 0 else None
        return Dims(batch, others[0], grows=True)

    def _is_waveform(self, x: Tensor, dims: Dims) -> bool:
        length = self._lengths[0]
        if dims.grows:
            if dims.time is None:
                return x.shape[1] >= length / 2
            time = x.shape[dims.time]
            return time >= length / 4 and x.numel() / (x.shape[dims.batch] * time) <= _MOST_WAVEFORM_FEATURES
        if self._lengths[1] is not None or dims.time is None:
            return False
        longest = max(x.shape[1:])
        return longest >= 0.9 * length and x.numel() / (len(x) * longest) <= _MOST_WAVEFORM_FEATURES

    def _lengths_of_frames(self, output: Any, location: Location) -> Path | None:
        """Where the output says how many of its frames are no padding: numbers that grow with the segments."""
        time = location.dims.time
        if time is None or not location.dims.grows:
            return None
        num_frames, other_num_frames = (
            at(output, location.path).shape[time],
            at(self._other, location.path).shape[time],
        )
        for path, x in tensors_in(output):
            other = at(self._other, path)
            if is_plain(x) and is_plain(other) and _is_one_number(x, self._rows[0]):
                n, m = int(x[0]), int(other.flatten()[0])
                grows = (n < m) == (num_frames < other_num_frames) and n != m
                if grows and num_frames / 2 < n <= num_frames and m <= other_num_frames:
                    return path
        return None

    def frame_rate(self, location: Location, x: Tensor, sample_rate: float) -> str:
        """How many frames a second there are, as text; nothing if it was not seen."""
        dims, other = location.dims, at(self._other, location.path)
        if dims.time is None or not dims.grows or self._lengths[1] is None:
            return ""
        frames = other.shape[dims.time] - x.shape[dims.time]
        return f", {frames * sample_rate / (self._lengths[1] - self._lengths[0]):.4g} a second"


def _is_one_number(x: Tensor, rows: int) -> bool:
    """Whether it is an integer for each row, the same for all."""
    is_integer = not x.is_floating_point() and not x.is_complex() and x.dtype != torch.bool
    return is_integer and x.shape == (rows,) and bool((x == x[0]).all())
