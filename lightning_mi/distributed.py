"""Gathering of Python objects from all processes (``all_gather_object``), rank and world size."""

from __future__ import annotations

from typing import Any, TypeVar

import torch.distributed as dist

T = TypeVar("T")


def gather(value: T) -> list[T]:
    """What every process passed, in the order of their ranks; every process must call it.

    Example:
        >>> gather("alone")
        ['alone']
    """
    if not (dist.is_available() and dist.is_initialized()):
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process; 0 if there is only one."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
