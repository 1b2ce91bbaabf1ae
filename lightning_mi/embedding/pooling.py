"""Pooling of frames over time: the mean, the boundary frames, the centre frame, or any one of each segment."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

Pooling = Literal["mean", "boundary", "center"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)


def pool(frames: Tensor, how: Pooling) -> Tensor:
    """Pool segments over time: ``(n, 1 + G, T, D)`` or ``(n, 1 + G, D)`` -> ``(n, 1 + G, D)``, as float32.

    Args:
        frames: The anchor and its G partners.
        how: ``"mean"``; ``"boundary"``: the anchor's last frame and the partners' first; ``"center"``: the frame
            at the centre, ``T // 2``.

    Example:
        >>> import torch
        >>> frames = torch.arange(6.0).reshape(1, 2, 3, 1)
        >>> pool(frames, "mean").flatten().tolist(), pool(frames, "boundary").flatten().tolist()
        ([1.0, 4.0], [2.0, 3.0])
    """
    if frames.ndim == 3:
        return frames.float()
    if how == "mean":
        return frames.float().mean(dim=2)
    if how == "center":
        return frames[:, :, frames.shape[2] // 2].float()
    return torch.cat([frames[:, :1, -1], frames[:, 1:, 0]], dim=1).float()


def select_frames(frames: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """One frame of each segment: of ``(n, 1 + G, T, D)``, at the shares ``at`` ``(n, 1 + G)`` in [0, 1) of T.

    Returns:
        The frames ``(n, 1 + G, D)`` as float32, and where the middle of each is, as a share of the segment's
        length, ``(n, 1 + G)`` float64 on the host. Embeddings ``(n, 1 + G, D)`` are returned as they are, with
        their middle.

    Example:
        >>> import torch
        >>> z, middle = select_frames(torch.arange(4.0).reshape(1, 1, 4, 1), torch.tensor([[0.6]]))
        >>> z.item(), middle.item()
        (2.0, 0.625)
    """
    if frames.ndim == 3:
        return frames.float(), torch.full(at.shape, 0.5, dtype=torch.float64)
    index = (at * frames.shape[2]).long()
    chosen = frames.gather(2, index.to(frames.device)[:, :, None, None].expand(-1, -1, 1, frames.shape[3]))
    return chosen[:, :, 0].float(), (index.double() + 0.5) / frames.shape[2]
