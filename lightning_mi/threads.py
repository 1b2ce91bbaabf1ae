"""Threads of the host: as many as the work deserves, since waiting for one another costs more than small work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_ELEMENTS_PER_THREAD = 1 << 23


@contextmanager
def few_threads(num_elements: int) -> Iterator[None]:
    """One thread of torch for each 8 million elements, behind it the user's number again.

    An estimate is hundreds of small steps, at the end of each of which threads wait for the slowest. A second
    thread makes 8192 pairs of 768 dimensions about a sixth faster; where other processes keep the cores busy, it
    makes them several times slower.

    Args:
        num_elements: Of the tensors that are worked on. The number of threads never rises.

    Example:
        >>> import torch
        >>> before = torch.get_num_threads()
        >>> with few_threads(1000):
        ...     torch.get_num_threads()
        1
        >>> torch.get_num_threads() == before
        True
    """
    before = torch.get_num_threads()
    wanted = min(before, max(1, num_elements // _ELEMENTS_PER_THREAD))
    if wanted == before:
        yield
        return
    torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)
