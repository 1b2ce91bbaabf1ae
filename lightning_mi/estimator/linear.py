"""LinearMap: logits as a linear map of features, and their cross-entropy in blocks of rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

_ELEMENTS_AT_ONCE = 1 << 18  # logits in one block on the host, where they then stay in the caches
_GPU_ELEMENTS_AT_ONCE = 1 << 24  # on a GPU, where fewer would leave it idle


@dataclass(frozen=True)
class LinearMap:
    """Logits ``x @ weight + bias``.

    Attributes:
        weight: ``(D, K)`` float32.
        bias: ``(K,)`` float32.
    """

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Logits ``(N, K)`` of ``x`` ``(N, D)``."""
        return torch.addmm(self.bias, x, self.weight)

    def probabilities(self, x: Tensor) -> Tensor:
        """softmax(logits) of each row: ``(N, K)``."""
        out = x.new_empty(x.shape[0], self.bias.shape[0])
        for part, result in row_blocks(self.bias.shape[0], x, out):
            torch.softmax(self(part), dim=1, out=result)
        return out

    def cross_entropy(self, x: Tensor, targets: Tensor) -> Tensor:
        """-log softmax(logits)[target] of each row, in nats: ``(N,)``."""
        losses = x.new_empty(x.shape[0])
        for part, hit, loss in row_blocks(self.bias.shape[0], x, targets, losses):
            logits = self(part)
            loss.copy_(logits.logsumexp(dim=1) - logits.gather(1, hit[:, None])[:, 0])
        return losses


def row_blocks(num_classes: int, *columns: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Blocks of the same rows of each of ``columns`` ``(N, ...)``, small enough for logits of all classes.

    Example:
        >>> import torch
        >>> [len(rows) for (rows,) in row_blocks(1 << 17, torch.arange(5))]
        [2, 2, 1]
    """
    block = _GPU_ELEMENTS_AT_ONCE if columns[0].is_cuda else _ELEMENTS_AT_ONCE
    rows = max(1, block // num_classes)
    return zip(*(column.split(rows) for column in columns), strict=True)
