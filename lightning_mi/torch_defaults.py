"""torch as it is without the user's settings: its default dtype and device, and a device that has float64."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_WITHOUT_FLOAT64 = ("mps",)  # Apple's GPUs


@contextmanager
def torch_defaults() -> Iterator[None]:
    """float32 on the host for tensors that are made inside; behind it the user's own defaults again.

    Example:
        >>> torch.set_default_dtype(torch.float64)
        >>> with torch_defaults():
        ...     torch.zeros(1).dtype
        torch.float32
        >>> torch.zeros(1).dtype
        torch.float64
        >>> torch.set_default_dtype(torch.float32)
    """
    # Not get_default_device: in torch 2.7 it raises behind set_default_device(None).
    dtype, device = torch.get_default_dtype(), torch.empty(0).device
    if dtype == torch.float32 and device.type == "cpu":
        yield
        return
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(dtype)


def where_float64_is(x: Tensor) -> Tensor:
    """``x``, moved to the host if its device has no float64 (Apple's MPS).

    Example:
        >>> x = torch.zeros(2)
        >>> where_float64_is(x) is x
        True
    """
    return x.cpu() if x.device.type in _WITHOUT_FLOAT64 else x
