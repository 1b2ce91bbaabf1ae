"""Threads of the host: as many as the work deserves, since waiting for one another costs more than small work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Generic, TypeVar

import torch

K = TypeVar("K")
V = TypeVar("V")

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
    wanted = min(before, threads_for(num_elements))
    if wanted == before:
        yield
        return
    torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def threads_for(num_elements: int) -> int:
    """How many threads work on tensors of ``num_elements`` deserves: one for each 8 million, at least one."""
    return max(1, num_elements // _ELEMENTS_PER_THREAD)


class SideBySide(Generic[K, V]):
    """Works on the host, side by side in up to ``at_once`` threads. A context manager, which waits for none.

    torch releases Python's lock in its own code, so two estimates of one thread each take the time of one.

    Args:
        at_once: With 1, each work is done where it is started.

    Example:
        >>> with SideBySide(2) as works:
        ...     for name in (1, 2, 3):
        ...         works.start(name, lambda name=name: 2 * name, num_elements=10)
        ...     sorted(works.results().items())
        [(1, 2), (2, 4), (3, 6)]
    """

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._pool = ThreadPoolExecutor(at_once, "lightning-mi") if at_once > 1 else None
        self._running: dict[Future[V], tuple[K, int]] = {}
        self._results: dict[K, V] = {}

    def start(self, name: K, work: Callable[[], V], num_elements: int) -> None:
        """Begin a work on tensors of ``num_elements``, as soon as there are threads for it.

        Raises:
            Exception: What a work raised, this one or one before.
        """
        if self._pool is None:
            self._results[name] = work()
            return
        threads = min(self._at_once, threads_for(num_elements))
        while self._running and threads + sum(each for _, each in self._running.values()) > self._at_once:
            self._wait()
        self._running[self._pool.submit(_in_mode, torch.is_inference_mode_enabled(), work)] = name, threads

    def results(self) -> dict[K, V]:
        """The results of all works, by their names, when the last has ended.

        Raises:
            Exception: What a work raised.
        """
        while self._running:
            self._wait()
        return self._results

    def _wait(self) -> None:
        for future in wait(self._running, return_when=FIRST_COMPLETED).done:
            name, _ = self._running.pop(future)
            self._results[name] = future.result()

    def __enter__(self) -> SideBySide[K, V]:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


def _in_mode(inference: bool, work: Callable[[], V]) -> V:
    with torch.inference_mode(inference):  # which torch keeps for each thread
        return work()
