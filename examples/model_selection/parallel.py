"""Work on the runs or checkpoints of a zoo, in one process or shared by several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

from omegaconf import DictConfig
from tqdm.auto import tqdm  # type: ignore[import-untyped,unused-ignore]

from lightning_mi.examples.model_selection.zoo import prepare_process

Item = TypeVar("Item")

_work: Callable[[Any], object]  # of a process that shares the work


def work_through(
    items: Sequence[Item], make: Callable[[DictConfig], Callable[[Item], object]], config: DictConfig, unit: str
) -> None:
    """Call what ``make`` makes of the config once with each item, in ``config.processes`` processes.

    Args:
        items: The items.
        make: Called once: the processes are forked afterwards and share one copy of the speech.
        config: Config of the zoo.
        unit: What an item is, for the progress bar.

    Raises:
        ValueError: If ``config.processes`` is below 1, or above 1 and ``config.accelerator`` is not ``"cpu"``.
    """
    count = config.processes
    if count < 1:
        raise ValueError(f"processes={count}: expected at least 1")
    if count > 1 and config.accelerator != "cpu":
        raise ValueError(
            f"processes={count}: expected 1 with accelerator={config.accelerator}, or accelerator=cpu"
        )
    prepare_process(config)
    work = make(config)
    if count == 1:
        _show(map(work, items), items, unit)
        return
    # The largest models stand last in the configs: what is begun last is what all the others wait for.
    with ProcessPoolExecutor(count, get_context("fork"), _share, (work,)) as pool:
        _show(pool.map(_call, reversed(items)), items, unit)


def _show(results: Iterable[object], items: Sequence[Item], unit: str) -> None:
    for _ in tqdm(results, desc=f"{unit}s", unit=unit, total=len(items), disable=None):
        pass


def _share(work: Callable[[Any], object]) -> None:
    global _work
    _work = work


def _call(item: Any) -> None:
    _work(item)
