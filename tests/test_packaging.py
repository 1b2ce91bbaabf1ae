"""What the wheel holds: every package of the library, and not the study."""

import ast
from pathlib import Path

import pytest

tomllib = pytest.importorskip("tomllib")  # from Python 3.11 on

ROOT = Path(__file__).parent.parent
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
STUDIES = ("lightning_mi.examples.model_selection", "lightning_mi.examples.public_encoders")


def folder_of(package):
    places = SETUPTOOLS["package-dir"]
    parent = max((name for name in places if f"{package}.".startswith(f"{name}.")), key=len)
    return ROOT / places[parent] / Path(*package.removeprefix(parent).split("."))


def test_listed_packages_exist():
    assert [name for name in SETUPTOOLS["packages"] if not list(folder_of(name).glob("*.[py][ya]*"))] == []


def test_every_package_of_the_library_and_no_study_is_listed():
    listed = set(SETUPTOOLS["packages"])
    modules = [path.parent.relative_to(ROOT) for path in (ROOT / "lightning_mi").rglob("*.py")]
    assert {".".join(folder.parts) for folder in modules} <= listed
    assert not any(name.startswith(STUDIES) for name in listed)


def imported_by(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_nothing_in_the_wheel_imports_a_study():
    paths = [path for name in SETUPTOOLS["packages"] for path in folder_of(name).glob("*.py")]
    assert len(paths) > 50
    assert [path for path in paths if any(name.startswith(STUDIES) for name in imported_by(path))] == []


def test_examples_import_each_other_by_their_full_names():
    paths = list((ROOT / "examples").rglob("*.py"))
    assert [path for path in paths if any(name.startswith(".") for name in imported_by(path))] == []
