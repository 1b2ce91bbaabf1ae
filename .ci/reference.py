"""Write the tables of lightning_mi/README.md from the code: its modules, its arguments, its logged names.

python .ci/reference.py            # write them (`make reference`)
python .ci/reference.py --check    # exit status 1 if a table is not what the code says (`make lint`)
"""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import re
import sys
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from lightning_mi import MIBoundCallback
from lightning_mi.presets import PRESETS, Preset
from lightning_mi.reporting.metric_names import METRICS

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "lightning_mi/README.md"
# In the order in which a validation batch meets them.
ROOMS = ("inputs", "embedding", "validation", "controls", "metrics", "estimator", "reporting", "ranking")


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page, or only compare it; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if a table is outdated")
    options = parser.parse_args(argv)
    before = PAGE.read_text()
    after = with_tables(before)
    if after == before:
        return 0
    if options.check:
        print(f"{PAGE.relative_to(ROOT)} is not what the code says. Run `make reference`.", file=sys.stderr)
        return 1
    PAGE.write_text(after)
    print(f"wrote {PAGE.relative_to(ROOT)}")
    return 0


def with_tables(page: str) -> str:
    """The page, with the text between each pair of markers written anew.

    Raises:
        ValueError: If the page lacks the markers of a table.
    """
    for name, table in TABLES.items():
        start, end = f"<!-- {name}: written by .ci/reference.py -->", f"<!-- end of {name} -->"
        if page.count(start) != 1 or page.count(end) != 1:
            raise ValueError(f"{PAGE.name} must hold `{start}` and `{end}` once each.")
        head, rest = page.split(start)
        _, tail = rest.split(end)
        page = f"{head}{start}\n\n{table()}\n\n{end}{tail}"
    return page


def module_table() -> str:
    """One row for each folder and for each file, with the first line of its docstring."""
    rows = []
    for folder in ["", *ROOMS]:
        files = sorted((ROOT / "lightning_mi" / folder).glob("*.py"))
        if folder:
            rows.append((f"**{folder}/**", f"**{first_line(files.pop(0))}**"))  # __init__.py comes first
        rows += [(f"[{file.name}]({Path(folder, file.name).as_posix()})", first_line(file)) for file in files]
    return table_of(("file", "what is in it"), rows)


def argument_table() -> str:
    """Name, default and type from the signature, the meaning from the class docstring."""
    meanings = documented_arguments(MIBoundCallback)
    hints = typing.get_type_hints(MIBoundCallback.__init__)
    rows = []
    for name, parameter in inspect.signature(MIBoundCallback).parameters.items():
        default = shown(parameter.default)
        rows.append((f"`{name}`", f"`{default}`", f"`{type_name(hints[name])}`", meanings[name]))
    return table_of(("argument", "default", "type", "meaning"), rows)


def preset_table() -> str:
    """What each preset stands for."""
    rows = []
    for name, preset in PRESETS.items():
        values = [list(value) if isinstance(value, tuple) else value for value in preset]
        rows.append((f"`{shown(name)}`", *(f"`{json.dumps(value)}`" for value in values)))
    return table_of(("preset", *(f"`{field}`" for field in Preset._fields)), rows)


def metric_table() -> str:
    """Every name that is logged."""
    rows = [(f"`{metric.name}`", metric.unit, metric.meaning) for metric in METRICS]
    return table_of(("name", "unit", "meaning"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "modules": module_table,
    "arguments": argument_table,
    "presets": preset_table,
    "logged names": metric_table,
}


def documented_arguments(made: type) -> dict[str, str]:
    """The ``Args:`` section of a class docstring as Markdown, by name."""
    text = inspect.getdoc(made) or ""
    section = re.split(r"^\w+:$", text.split("\nArgs:\n")[1], maxsplit=1, flags=re.M)[0]
    entries = re.split(r"^    (?=\w+:)", section, flags=re.M)[1:]
    pairs = (entry.split(":", 1) for entry in entries)
    return {name: as_markdown(" ".join(meaning.split())) for name, meaning in pairs}


def first_line(file: Path) -> str:
    """The first line of a module's docstring as Markdown."""
    text = ast.get_docstring(ast.parse(file.read_text())) or ""
    return as_markdown(text.split("\n")[0])


def as_markdown(text: str) -> str:
    """Roles and literals of reStructuredText as code spans."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text)
    return text.replace("``", "`")


def shown(default: Any) -> str:
    """A default as one writes it."""
    return f'"{default}"' if isinstance(default, str) else repr(default)


def type_name(hint: Any) -> str:
    """A type as one writes it, a ``Literal`` by its values."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if hint is types.NoneType:
        return "None"
    if origin is Literal:
        return " | ".join(f'"{value}"' for value in parts)
    if origin in (typing.Union, types.UnionType):
        if Any in parts:  # Python 3.10 makes `Any | None` of Any with the default None
            return "Any"
        return " | ".join(dict.fromkeys(type_name(part) for part in parts))
    name = str(getattr(hint, "__name__", hint))
    if not parts or name == "Callable":
        return name
    return f"{name}[{', '.join(type_name(part) for part in parts)}]"


def table_of(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *[[cell.replace("|", "\\|") for cell in row] for row in rows]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
