"""The examples in the docstrings of the study."""

import doctest
import importlib
import pkgutil

import pytest

pytest.importorskip("torchaudio")
pytest.importorskip("sklearn")
pytest.importorskip("soundfile")

from lightning_mi.examples import model_selection

MODULES = [each.name for each in pkgutil.walk_packages(model_selection.__path__, f"{model_selection.__name__}.")]


def test_docstrings_hold():
    found = [doctest.testmod(importlib.import_module(name)) for name in MODULES]
    assert sum(each.failed for each in found) == 0
    assert sum(each.attempted for each in found) > 20
