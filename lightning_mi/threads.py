"""Threads of the host: as many as the work deserves, since waiting for one another costs more than small work."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

import torch

K = TypeVar("K")
V = TypeVar("V")

_ELEMENTS_PER_THREAD = 1 << 19
_LOAD = Path("/proc/loadavg")
_READINGS = 20
_BETWEEN = 1e-3  # seconds; threads that have just ended their work spin on for some of these


@contextmanager
def few_threads(num_elements: int) -> Iterator[None]:
    """No more threads of torch than there are free cores, nor than one for each half a million elements; behind it
    the user's number again.

    An estimate is hundreds of small steps, at the end of each of which threads wait for the slowest. On free cores
    a second thread makes 4096 pairs of 768 dimensions a third faster; where other processes keep the cores busy,
    it makes them several times slower.

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
    if wanted > 1:
        wanted = min(wanted, free_cores())
    if wanted == before:
        yield
        return
    torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def free_cores() -> int:
    """How many cores of this process nothing else runs on, its own included; at least 1.

    Example:
        >>> free_cores() >= 1
        True
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores == 1:
        return 1
    fewest = cores + 1  # of the whole machine, with this thread
    try:
        for _ in range(_READINGS):
            time.sleep(_BETWEEN)
            fewest = min(fewest, int(_LOAD.read_text().split()[3].split("/")[0]))
            if fewest <= 1:
                break
        return max(1, cores + 1 - fewest)
    except (OSError, ValueError, IndexError):  # not Linux
        return max(1, cores - round(os.getloadavg()[0])) if hasattr(os, "getloadavg") else cores


class Stopped(BaseException):
    """Raised in a work that nobody waits for any more."""


class SideBySide(Generic[K, V]):
    """Works on the host, side by side in up to ``at_once`` threads of Python, each with one thread of torch. A
    context manager, which stops those that still run when it ends, at their next step in Python.

    torch releases Python's lock in its own code, so two estimates of one thread each take the time of one.

    Args:
        at_once: With 1, each work is done where it is started, with all of torch's threads.

    Example:
        >>> with SideBySide(2) as works:
        ...     for name in (1, 2, 3):
        ...         works.start(name, lambda name=name: 2 * name)
        ...     sorted(works.results().items())
        [(1, 2), (2, 4), (3, 6)]
    """

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._pool = ThreadPoolExecutor(at_once, "lightning-mi") if at_once > 1 else None
        self._running: dict[Future[V], K] = {}
        self._threads: set[int] = set()  # that are at work
        self._results: dict[K, V] = {}

    def start(self, name: K, work: Callable[[], V]) -> None:
        """Begin a work, as soon as fewer than ``at_once`` run.

        Raises:
            Exception: What a work raised, this one or one before.
        """
        if self._pool is None:
            self._results[name] = work()
            return
        while len(self._running) == self._at_once:
            self._wait()
        self._running[self._pool.submit(self._alone, torch.is_inference_mode_enabled(), work)] = name

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
            self._results[self._running.pop(future)] = future.result()

    def __enter__(self) -> SideBySide[K, V]:
        self._num_threads = torch.get_num_threads()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            for thread in list(self._threads):
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(Stopped))
            torch.set_num_threads(self._num_threads)  # of MKL, which has one number for all threads

    def _alone(self, inference: bool, work: Callable[[], V]) -> V:
        thread = threading.get_ident()
        self._threads.add(thread)
        try:
            torch.set_num_threads(1)
            with torch.inference_mode(inference):  # which torch keeps for each thread
                return work()
        finally:
            self._threads.discard(thread)
