"""Termination: a SIGTERM that comes during the estimates stops them on all processes, and is then Lightning's."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from lightning_mi.embedding.lightning_packages import is_lightning_handler, sigterm_exception

# In seconds, for the signal that the handler of the first process sends on: in that handler it waits for this one.
_LONGEST_WAIT = 5.0


class Terminated(BaseException):
    """The estimates were stopped by a SIGTERM, which this process or another has received."""


class _Hold:
    """What is done with a SIGTERM while the estimates run.

    Attributes:
        has_come: Whether one has come.
        frame: Where it found the process.
        may_interrupt: Whether the code that runs may be left in the middle.
    """

    def __init__(self) -> None:
        self.has_come = False
        self.frame: FrameType | None = None
        self.may_interrupt = False

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        self.has_come, self.frame = True, frame
        if self.may_interrupt:
            raise Terminated


_hold: _Hold | None = None  # of this process, as signals are


@contextmanager
def held_sigterm(trainer: Any) -> Iterator[None]:
    """Hold a SIGTERM back during the body, where it interrupts :func:`interruptible` parts alone.

    Lightning's own handler notes the signal, for its loops to act on when the next batch ends; and with several
    processes it calls a collective, which none may do in the middle of another. So it is called when the body
    ends, and if the body ended by :class:`Terminated` the Trainer's SIGTERMException is raised. Nothing is held
    if another handler than Lightning's is in place, or outside of the main thread.

    Args:
        trainer: The Trainer, of either package.

    Raises:
        SIGTERMException: If the body was interrupted, on every process.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> with held_sigterm(Trainer(logger=False)):
        ...     sigterm_has_come()
        False
    """
    try:
        handler: Any = signal.getsignal(signal.SIGTERM)
        if threading.current_thread() is threading.main_thread() and is_lightning_handler(handler):
            with _in_place_of(handler):
                yield
        else:
            yield
    except Terminated:
        end = time.monotonic() + _LONGEST_WAIT
        while not trainer.received_sigterm and time.monotonic() < end:
            time.sleep(0.01)
        raise sigterm_exception(trainer) from None


@contextmanager
def interruptible() -> Iterator[None]:
    """A body that may be left in the middle, by :class:`Terminated`, if a SIGTERM comes.

    Example:
        >>> with interruptible():
        ...     pass
    """
    hold = _hold
    if hold is None:
        yield
        return
    try:
        hold.may_interrupt = True
        if hold.has_come:
            raise Terminated
        yield
    finally:
        hold.may_interrupt = False


def sigterm_has_come() -> bool:
    """Whether this process holds a SIGTERM."""
    return _hold is not None and _hold.has_come


@contextmanager
def _in_place_of(handler: Callable[..., Any]) -> Iterator[None]:
    global _hold
    hold = _hold = _Hold()
    signal.signal(signal.SIGTERM, hold)
    try:
        yield
    finally:
        _hold = None
        signal.signal(signal.SIGTERM, handler)
        if hold.has_come:
            handler(signal.SIGTERM, hold.frame)
