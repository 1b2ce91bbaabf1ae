"""Where the installed packages keep their weights. None of them is imported: only the weights are wanted."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def package_file(package: str, *parts: str) -> Path:
    """Path of a file inside an installed package.

    Args:
        package: Name that it is imported by.
        *parts: Folders and name of the file.

    Raises:
        FileNotFoundError: The package is not installed, or has no such file.
    """
    spec = find_spec(package)
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    for folder in folders:
        path = Path(folder).joinpath(*parts)
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"package={package!r}: no file {'/'.join(parts)}. Install the packages of "
        "examples/public_encoders/requirements.txt with --no-deps, or run `make encoders`."
    )
