"""Memory that the embeddings of an epoch will take, checked before the first are kept."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from torch import Tensor

_LARGEST_SHARE = 0.5  # of what is free; the estimate itself needs some, and the buffers grow by half


def check_memory(embeddings: Mapping[str, Tensor], num_segments: int, max_pairs: int, free: int | None) -> None:
    """Raise if the embeddings of all pairs would not fit.

    Args:
        embeddings: By layer name, ``(n, T, D)`` or ``(n, D)``.
        num_segments: Segments of a pair, with those at all distances.
        max_pairs: Maximum number of pairs.
        free: Bytes that are free on the device of the embeddings; ``None`` if that is not known.

    Raises:
        ValueError: If they take more than half of that.

    Example:
        >>> check_memory({"output": torch.zeros(4, 768)}, 2, 4096, free=10**9)
    """
    features = sum(x.shape[-1] for x in embeddings.values())
    needed = 4 * features * num_segments * max_pairs
    if free is None or needed <= _LARGEST_SHARE * free:
        return
    fitting = int(_LARGEST_SHARE * free / (4 * features * num_segments))
    raise ValueError(
        f"`max_pairs={max_pairs}` pairs of {num_segments} segments, {len(embeddings)} layer(s) of together "
        f"{features} features, take {needed / 2**30:.1f} GiB, more than half of the {free / 2**30:.1f} GiB that "
        f"are free. Pass `max_pairs={fitting}` or fewer, name fewer `layers`, or point `embed=` at fewer features."
    )


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free on a device; ``None`` if that cannot be told."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type != "cpu":
        return None
    try:
        with open("/proc/meminfo") as file:
            (line,) = (line for line in file if line.startswith("MemAvailable"))
        return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
