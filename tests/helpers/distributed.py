"""Several processes for tests: each runs the same function, as under ``torchrun``, and hands back what it returns."""

from __future__ import annotations

import os
import socket
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


def in_processes(count: int, folder: Path, function: Callable[..., Any], *args: Any) -> list[Any]:
    """What ``function(*args)`` returns in each of ``count`` processes, which Lightning's Trainer finds itself in.

    An exception in one process ends the others, and is raised here as ``ProcessRaisedException``.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(_process, (count, port, folder, function, args), nprocs=count)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(count)]


def _process(rank: int, count: int, port: int, folder: Path, function: Callable[..., Any], args: Any) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), WORLD_SIZE=str(count), NODE_RANK="0")
    os.environ.update(LOCAL_RANK=str(rank), RANK=str(rank))
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", ".*(recommended|does not have many workers|uneven).*")
    torch.save(function(*args), folder / f"{rank}.pt")
    # Not after an exception, which would reach the others as a lost connection before it is told.
    if dist.is_initialized():  # gloo's threads want to be told before the interpreter ends
        dist.destroy_process_group()
