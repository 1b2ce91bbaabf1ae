"""Paths of what a program reads, wherever Hydra has moved the program to."""

from __future__ import annotations

import sys
from pathlib import Path


def start_folder() -> Path:
    """The folder that the program was started in: Hydra may have changed to the folder of the run since
    (``hydra.job.chdir=true``).

    Example:
        >>> start_folder() == Path.cwd()
        True
    """
    config = sys.modules.get("hydra.core.hydra_config")
    if config is not None and config.HydraConfig.initialized():
        runtime = config.HydraConfig.get().runtime
        return Path(runtime.get("cwd") or Path.cwd())  # unknown if the config was composed by hand
    return Path.cwd()


def from_start(path: str | Path) -> Path:
    """``path`` as an absolute one, relative to :func:`start_folder`; ``~`` is the home folder.

    Example:
        >>> from_start("speech") == Path.cwd() / "speech"
        True
    """
    return start_folder() / Path(path).expanduser()
