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
        make: Called once in each process, which has one copy of the speech.
        config: Config of the zoo.
        unit: What an item is, for the progress bar.

    Raises:
        ValueError: If ``config.processes`` is below 1.
    """
    count = config.processes
    if count < 1:
        raise ValueError(f"processes={count}: expected at least 1")
    if count == 1:
        prepare_process(config)
        _show(map(make(config), items), items, unit)
        return
    # The largest models stand last in the configs: what is begun last is what all the others wait for.
    with ProcessPoolExecutor(count, get_context("spawn"), _prepare, (make, config)) as pool:
        _show(pool.map(_call, reversed(items)), items, unit)


def _show(results: Iterable[object], items: Sequence[Item], unit: str) -> None:
    for _ in tqdm(results, desc=f"{unit}s", unit=unit, total=len(items), disable=None):
        pass


def _prepare(make: Callable[[DictConfig], Callable[[Any], object]], config: DictConfig) -> None:
    global _work
    prepare_process(config)
    _work = make(config)


def _call(item: Any) -> None:
    _work(item)
