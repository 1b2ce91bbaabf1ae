"""Packages that only the examples need, imported when they are first used."""

from __future__ import annotations

import importlib
from typing import Any


def import_extra(name: str) -> Any:
    """Import the optional module ``name``.

    Raises:
        ImportError: It is not installed; the message names what to install.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"the example data modules need {name}, which cannot be imported ({error}); "
            "install it with: pip install 'lightning-mi[examples]'"
        ) from error
