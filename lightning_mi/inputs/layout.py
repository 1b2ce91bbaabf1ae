"""Layout of utterances in a batch: which dimension is time, of waveforms or of feature sequences."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """How utterances lie in a tensor ``(B, ...)``, made by :func:`parse_time_dim`.

    Attributes:
        time_dim: ``None`` for waveforms, ``(B, T)`` or ``(B, 1, T)``; 1 or 2 for feature sequences, ``(B, T, F)``
            or ``(B, F, T)``.
    """

    time_dim: int | None = None

    @property
    def what(self) -> str:
        """Its name in messages."""
        return "waveforms" if self.time_dim is None else "feature sequences"

    @property
    def shapes(self) -> str:
        """The shapes of its tensors, for messages."""
        return {None: "(B, T) or (B, 1, T)", 1: "(B, T, F)", 2: "(B, F, T)"}[self.time_dim]

    def fits(self, x: Tensor) -> bool:
        """Whether ``x`` has the shape of such utterances, and there is at least one value in each."""
        if 0 in x.shape[1:]:
            return False
        is_mono = x.ndim == 2 or (x.ndim == 3 and x.shape[1] == 1)
        return is_mono if self.time_dim is None else x.ndim == 3

    def length(self, x: Tensor) -> int:
        """How long the longest may be: T."""
        return x.shape[-1 if self.time_dim is None else self.time_dim]

    def frames(self, x: Tensor) -> Tensor:
        """``x``, or segments of it, with time before features: ``(B, T, F)``, F = 1 for waveforms."""
        if self.time_dim is None:
            return x.reshape(x.shape[0], -1, 1)
        return x if self.time_dim == 1 else x.transpose(1, 2)

    def restore(self, frames: Tensor, like: Tensor) -> Tensor:
        """``(..., T, F)`` as the tensor ``like`` that it was cut from has it, with any dimensions before.

        Example:
            >>> import torch
            >>> for layout, x in (Layout(), torch.zeros(4, 90)), (Layout(2), torch.zeros(4, 8, 90)):
            ...     layout.restore(layout.frames(x)[:, :30], like=x).shape
            torch.Size([4, 30])
            torch.Size([4, 8, 30])
        """
        if self.time_dim == 1:
            return frames
        return frames[..., 0] if like.ndim == 2 else frames.transpose(-1, -2)


WAVEFORMS = Layout()


def parse_time_dim(time_dim: int | None) -> Layout:
    """Read the argument ``time_dim`` of :class:`lightning_mi.MIBoundCallback`.

    Raises:
        TypeError: If it is no integer.
        ValueError: If it is not one of 1, 2, -1 and -2.

    Example:
        >>> parse_time_dim(-1)
        Layout(time_dim=2)
    """
    if time_dim is None:
        return WAVEFORMS
    if isinstance(time_dim, bool) or not isinstance(time_dim, int):
        raise TypeError(f"`time_dim` must be an integer or None, got {time_dim!r}.")
    if time_dim not in (1, 2, -1, -2):
        raise ValueError(
            f"`time_dim` must be 1 for feature sequences (B, T, F), 2 or -1 for (B, F, T), or None for waveforms, "
            f"got {time_dim}."
        )
    return Layout(time_dim % 3)
