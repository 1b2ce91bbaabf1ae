"""Run tests beside other versions: each entry is a Python and a constraints file, in an environment of its own.

python .ci/matrix.py                      # all entries, quick tests (`make matrix`)
python .ci/matrix.py --core 3.10:oldest   # one entry, and only tests of what touches other packages most

An entry whose Python is not found is skipped. An environment takes up to 7 GB and is removed behind its tests.
The table goes to standard output, what pip and pytest said to .cache/matrix/.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".cache/matrix"
CONSTRAINTS = {
    "oldest": "constraints-oldest.txt",
    "pinned": "constraints.txt",
    "newest": "constraints-newest.txt",
}
ENTRIES = ("3.10:oldest", "3.11:oldest", "3.11:pinned", "3.12:newest", "3.13:newest")
CORE = (
    "tests/controls",
    "tests/metrics",
    "tests/embedding",
    "tests/estimator/test_kmeans.py",
    "tests/integration/test_import.py",
    "tests/integration/test_input_baseline.py",
    "tests/integration/test_pytorch_lightning.py",
    "tests/integration/test_torch_defaults.py",
    "tests/ranking/test_hydra_config.py",
)
SHOWN = (
    "torch",
    "torchaudio",
    "lightning",
    "pytorch-lightning",
    "torchmetrics",
    "faiss-gpu",
    "hydra-core",
    "numpy",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run entries and print a table; the exit status is 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("entries", nargs="*", metavar="PYTHON:VERSIONS", help=f"of {', '.join(ENTRIES)}")
    parser.add_argument("--core", action="store_true", help="fewer tests, for every change")
    parser.add_argument("--minutes", type=float, default=40.0, help="limit of each entry (default: %(default)s)")
    options = parser.parse_args(argv)
    tests = CORE if options.core else ()
    failed = False
    for entry in options.entries or ENTRIES:
        python, _, versions = entry.partition(":")
        if versions not in CONSTRAINTS:
            parser.error(f"{entry!r}: expected PYTHON:VERSIONS with VERSIONS one of {', '.join(CONSTRAINTS)}")
        found = find_python(python)
        if found is None:
            print(f"{entry}: skipped, there is no python{python}", flush=True)
            continue
        start = time.monotonic()
        result, packages = run(entry, found, CONSTRAINTS[versions], tests, 60 * options.minutes)
        print(f"{entry}: {result}, {time.monotonic() - start:.0f} s; {packages}", flush=True)
        failed |= "failed" in result
    return int(failed)


def find_python(version: str) -> str | None:
    """The interpreter of that version on the path, or the newest of pyenv's."""
    folder = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for path in [*sorted(folder.glob(f"{version}.*/bin/python"), reverse=True), shutil.which(f"python{version}")]:
        if path is not None and subprocess.run([path, "-c", "import venv"], capture_output=True).returncode == 0:
            return str(path)
    return None


def run(entry: str, python: str, constraints: str, tests: Sequence[str], seconds: float) -> tuple[str, str]:
    """What came of one entry, and the versions that pip has installed."""
    name = entry.replace(":", "-")
    folder = FOLDER / name
    log = FOLDER / f"{name}.log"
    FOLDER.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    own = str(folder / "bin/python")
    steps = {
        "environment": [python, "-m", "venv", str(folder)],
        "pip": [own, "-m", "pip", "install", "-q", "--upgrade", "pip"],
        "installation": [own, "-m", "pip", "install", "-q", "-e", ".[test]", "-c", constraints],
        "tests": [own, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", *tests],
    }
    end = time.monotonic() + seconds
    result = packages = ""
    try:
        with log.open("w") as file:
            for step, command in steps.items():
                left = max(1.0, end - time.monotonic())
                done = subprocess.run(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, timeout=left)
                if done.returncode:
                    tail = " | ".join(log.read_text(errors="replace").splitlines()[-3:])
                    result = f"failed at the {step}: {tail}"
                    break
            else:
                result = log.read_text(errors="replace").splitlines()[-1].strip("= ")
    except subprocess.TimeoutExpired:
        result = f"failed: more than {seconds / 60:g} minutes"
    if Path(own).exists():
        listed = subprocess.run([own, "-m", "pip", "list"], capture_output=True, text=True).stdout.split("\n")
        versions = dict(line.split()[:2] for line in listed if len(line.split()) > 1)
        packages = ", ".join(f"{each} {versions[each]}" for each in SHOWN if each in versions)
    shutil.rmtree(folder, ignore_errors=True)
    return result, packages


if __name__ == "__main__":
    sys.exit(main())
