"""Packages that only the examples need, imported when they are first used."""

from __future__ import annotations

import importlib
from typing import Any


def import_extra(name: str) -> Any:
    """Import the optional module ``name``.

    Raises:
        ImportError: It is not installed, or it does not fit the installed torch (torchaudio beside a build without
            CUDA); the message names what to install.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"the examples need {name}, which cannot be imported ({error}); "
            "install it with: pip install 'lightning-mi[examples]'"
        ) from error
    except (OSError, RuntimeError) as error:  # its compiled part is of another torch
        import torch

        raise ImportError(
            f"the examples need {name}, and the one that is installed does not fit torch {torch.__version__} "
            f"({error}); lightning_mi/README.md has the versions that fit each other"
        ) from error
