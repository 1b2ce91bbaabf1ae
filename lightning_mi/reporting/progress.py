"""Progress of the estimates at the end of a validation, in the bar that Lightning shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.trainer.states import TrainerFn


@contextmanager
def estimates_in_bar(trainer: Trainer, name: str) -> Iterator[Callable[[int, int], None]]:
    """A function of the number of an estimate and of how many there are, which shows them in the Trainer's bar.

    It shows ``name: estimate 3/25`` as the postfix of a ``TQDMProgressBar`` and as the description of a
    ``RichProgressBar``, until the body ends. Without a bar, in a user's own bar and on all processes but the first
    it does nothing. It never raises.

    Args:
        trainer: Validates or tests.
        name: What is estimated.

    Example:
        >>> with estimates_in_bar(Trainer(logger=False, enable_progress_bar=False), "mi_bound") as show:
        ...     show(1, 25)
    """
    bar = _visible_bar(trainer)
    if bar is None:
        yield lambda number, total: None
        return
    show, restore = bar

    def tell(number: int, total: int) -> None:
        with suppress(Exception):  # a terminal that has gone is no reason to end a run
            show(f"{name}: estimate {number}/{total}")

    try:
        yield tell
    finally:
        with suppress(Exception):
            restore()


def _visible_bar(trainer: Trainer) -> tuple[Callable[[str], None], Callable[[], None]] | None:
    """What shows a text in the bar of this loop, and what restores the bar; ``None`` if there is none."""
    callback: Any = trainer.progress_bar_callback
    if callback is None or not trainer.is_global_zero or getattr(callback, "is_disabled", False):
        return None
    loop = "test" if trainer.state.fn == TrainerFn.TESTING else "val"
    try:
        bar = getattr(callback, f"{loop}_progress_bar")
    except Exception:  # Lightning's answer to a bar that is not there differs among bars
        return None
    if hasattr(bar, "set_postfix_str"):
        return None if bar.disable else _of_tqdm(bar)
    if hasattr(bar, "description") and hasattr(getattr(callback, "progress", None), "update"):
        return _of_rich(callback.progress, bar)
    return None


def _of_tqdm(bar: Any) -> tuple[Callable[[str], None], Callable[[], None]]:
    before = bar.postfix
    return bar.set_postfix_str, lambda: bar.set_postfix_str(before or "")


def _of_rich(progress: Any, task: Any) -> tuple[Callable[[str], None], Callable[[], None]]:
    """A RichProgressBar in the Trainer's ``callbacks`` may come before ours, and has then hidden its task."""
    before = {"description": task.description, "visible": task.visible}

    def show(text: str) -> None:
        progress.update(task.id, description=text, visible=True)
        progress.refresh()

    return show, lambda: progress.update(task.id, **before)
