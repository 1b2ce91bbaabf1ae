"""Frames -> one vector that holds what a model gets without learning: the input baseline of feature sequences."""

from __future__ import annotations

import torch
from torch import Tensor


def frame_statistics(frames: Tensor) -> Tensor:
    """Mean and standard deviation over time of each feature.

    Args:
        frames: ``(N, S, F)`` floating-point.

    Returns:
        ``(N, 2 * F)`` float32, the means first, on the device of ``frames``.

    Example:
        >>> import torch
        >>> frame_statistics(torch.tensor([[[1.0, 5.0], [3.0, 5.0]]]))
        tensor([[2., 5., 1., 0.]])
    """
    frames = frames.float()
    return torch.cat([frames.mean(dim=1), frames.std(dim=1, correction=0)], dim=1)
