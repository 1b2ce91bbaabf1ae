"""Prepare: the shape and the type in which an encoder takes segments, found by trying."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from lightning_mi.inputs.layout import Layout

T = TypeVar("T")


@dataclass(frozen=True)
class Prepare:
    """What segments go through before the call.

    Attributes:
        ndim: 2 for waveforms ``(B, T)``, 3 for ``(B, 1, T)``; ``None``: as they are.
        dtype: Their type; ``None``: as it is.

    Example:
        >>> Prepare(ndim=3)(torch.zeros(2, 400)).shape
        torch.Size([2, 1, 400])
    """

    ndim: int | None = None
    dtype: torch.dtype | None = None

    def __call__(self, segments: Tensor) -> Tensor:
        """The segments as the encoder takes them."""
        if self.ndim == 3 and segments.ndim == 2:
            segments = segments[:, None]
        elif self.ndim == 2 and segments.ndim == 3:
            segments = segments[:, 0]
        return segments if self.dtype is None else segments.to(self.dtype)


AS_IT_IS = Prepare()


def candidates(
    segments: Tensor, module: nn.Module, layout: Layout, as_in_step: int | None = None
) -> list[Prepare]:
    """The shapes and types in which segments may be meant, the likeliest first.

    Args:
        segments: Segments in the layout of the batch.
        module: What takes them: the type of its parameters is tried last.
        layout: Layout of the batch.
        as_in_step: Number of dimensions with which the validation step calls the encoder, if that is known.
    """
    ndims: list[int | None] = [None]
    if layout.time_dim is None:
        ndims.append(3 if segments.ndim == 2 else 2)
        if as_in_step == ndims[1]:
            ndims.reverse()
    of_module = next((p.dtype for p in module.parameters() if p.is_floating_point()), segments.dtype)
    dtypes = [None] if of_module == segments.dtype else [None, of_module]
    return [Prepare(ndim, dtype) for dtype in dtypes for ndim in ndims]


def first_taken(choices: list[Prepare], call: Callable[[Prepare], T]) -> tuple[Prepare, T]:
    """The first choice with which ``call`` does not fail, and what that returned.

    Raises:
        Exception: The first one, if all fail.
    """
    first: Exception | None = None
    for prepare in choices:
        try:
            return prepare, call(prepare)
        except Exception as error:
            first = first or error
    assert first is not None
    raise first
