"""Gram matrices, sums by class and nearest centroids, in blocks that bound the memory."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_mi.estimator.linear import row_blocks

_ROWS_AT_ONCE = 1 << 14  # rows summed in float32 before float64 takes over


def gram(x: Tensor) -> Tensor:
    """``x^T x`` of ``x`` ``(N, D)`` float32, as ``(D, D)`` float64, whose relative error does not grow with N.

    Example:
        >>> import torch
        >>> gram(torch.tensor([[1.0, 2.0], [3.0, 4.0]])).tolist()
        [[10.0, 14.0], [14.0, 20.0]]
    """
    dim = x.shape[1]
    total = torch.zeros(dim, dim, dtype=torch.float64, device=x.device)
    if x.is_cuda or dim < 128:
        for part in x.split(_ROWS_AT_ONCE):
            total += part.T @ part
        return total
    # On the host the product takes the time: skip three eighths of it, which follow by symmetry.
    width = -(-dim // 4)
    for part in x.split(_ROWS_AT_ONCE):
        for start in range(0, dim, width):
            total[start : start + width, start:] += part[:, start : start + width].T @ part[:, start:]
    return total.triu() + total.triu(1).T


def row_space(x: Tensor) -> Tensor | None:
    """Orthonormal basis ``(D, N)`` of a space in which all rows of ``x`` ``(N, D)`` lie, if D is twice N or more;
    else ``None``, as it would not pay.

    Example:
        >>> import torch
        >>> x = torch.tensor([[3.0, 0.0, 4.0]])
        >>> row_space(x).abs()[:, 0].tolist()
        [0.6..., 0.0, 0.8...]
        >>> row_space(torch.eye(2)) is None
        True
    """
    num_rows, dim = x.shape
    return torch.linalg.qr(x.T).Q if dim >= 2 * num_rows else None


def sums_by_class(x: Tensor, classes: Tensor, num_classes: int) -> Tensor:
    """Sum of the rows of ``x`` ``(N, D)`` float32 of each class ``(N,)``: ``(num_classes, D)`` float32.

    Deterministic: the host adds in the order of the rows; a GPU, whose atomic additions come in any order,
    multiplies by the one-hot matrix instead.

    Example:
        >>> import torch
        >>> sums_by_class(torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([0, 1, 0]), 2).tolist()
        [[5.0], [2.0]]
    """
    sums = x.new_zeros(num_classes, x.shape[1])
    if not x.is_cuda:
        return sums.index_add_(0, classes, x)
    names = torch.arange(num_classes, device=x.device)
    for part, member_of in row_blocks(num_classes, x, classes):
        sums += (member_of[:, None] == names).to(x.dtype).T @ part
    return sums


def nearest(points: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest of ``centroids`` ``(K, D)`` for each of ``points`` ``(N, D)``, both float32.

    Returns:
        ``|c|^2/2 - x.c`` of the nearest centre (half of the squared distance, less ``|x|^2/2``) as ``(N,)``
        float32, and its number as ``(N,)`` int64.

    Example:
        >>> import torch
        >>> nearest(torch.tensor([[0.0], [0.9]]), torch.tensor([[0.1], [1.0]]))[1].tolist()
        [0, 1]
    """
    half_squares = centroids.square().sum(dim=1) / 2
    cost = points.new_empty(points.shape[0])
    index = torch.empty(points.shape[0], dtype=torch.int64, device=points.device)
    for part, low, where in row_blocks(centroids.shape[0], points, cost, index):
        torch.min(torch.addmm(half_squares, part, centroids.T, alpha=-1), dim=1, out=(low, where))
    return cost, index
