"""Frames -> one vector that holds what a model gets without learning, for the input baseline."""

from __future__ import annotations

import torch
from torch import Tensor


def frame_statistics(frames: Tensor) -> Tensor:
    """Mean and standard deviation over time of each feature.

    Args:
        frames: ``(..., S, F)`` floating-point.

    Returns:
        ``(..., 2 * F)`` float32, the means first, on the device of ``frames``.

    Example:
        >>> import torch
        >>> frame_statistics(torch.tensor([[[1.0, 5.0], [3.0, 5.0]]]))
        tensor([[2., 5., 1., 0.]])
    """
    frames = frames.float()
    return torch.cat([frames.mean(dim=-2), frames.std(dim=-2, correction=0)], dim=-1)
