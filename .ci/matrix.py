"""Run tests beside other versions: each entry is a Python and a constraints file, in an environment of its own.

python .ci/matrix.py                      # all entries, quick tests (`make matrix`)
python .ci/matrix.py --core 3.10:oldest   # one entry, and only tests of what touches other packages most

An entry is skipped, and says so, if its Python is not found, the disk has no room, or the network refuses a
package or is too slow. Whatever else goes wrong is a failure: a test, versions that exclude each other, a build.
An environment takes 7.5 GB, while it is installed some more, and is removed behind its tests.
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
    "tests/callback/test_batches_and_models.py",
    "tests/callback/test_trainer_loop.py",
    "tests/estimator/test_kmeans.py",
    "tests/integration/test_import.py",
    "tests/integration/test_input_baseline.py",
    "tests/integration/test_no_side_effects.py",
    "tests/integration/test_pytorch_lightning.py",
    "tests/integration/test_resume.py",
    "tests/integration/test_torch_defaults.py",
    "tests/ranking/test_checkpoints.py",
    "tests/ranking/test_hydra_config.py",
    "tests/reporting/test_loggers.py",
)
ROOM = 12e9  # bytes
PIP = ("pip", "installation")  # steps
# What pip says if it does not reach an index, or if its disk or that of the index has no room.
REFUSED = (
    "(from versions: none)",
    "Connection broken",
    "ConnectionError",
    "HTTP error",
    "HTTPError",
    "IncompleteRead",
    "No space left on device",
    "ProxyError",
    "ReadTimeoutError",
    "Read timed out",
    "SSLError",
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
    parser.add_argument("--minutes", type=float, default=40.0, help="limit of each step (default: %(default)s)")
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
        FOLDER.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(FOLDER).free
        if free < ROOM:
            print(f"{entry}: skipped, {free / 1e9:.1f} GB are free and {ROOM / 1e9:.0f} are needed", flush=True)
            continue
        start = time.monotonic()
        result, packages = run(entry, found, CONSTRAINTS[versions], tests, 60 * options.minutes)
        print(f"{entry}: {result}, {time.monotonic() - start:.0f} s; {packages}", flush=True)
        failed |= result.startswith("failed")
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
    shutil.rmtree(folder, ignore_errors=True)
    result = packages = ""
    with log.open("w") as file:
        for step, command in steps_of(python, folder, constraints, tests).items():
            try:
                done = subprocess.run(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, timeout=seconds)
            except subprocess.TimeoutExpired:
                verdict = "failed" if step == "tests" else "skipped"
                result = f"{verdict} at the {step}: more than {seconds / 60:g} minutes"
                break
            said = log.read_text(errors="replace")
            if done.returncode:
                verdict = "skipped" if is_refused(step, said) else "failed"
                result = f"{verdict} at the {step}: {last_lines(said, 3)}"
                break
            result = last_lines(said, 1).strip("= ")
    own = folder / "bin/python"
    if own.exists():
        listed = subprocess.run([own, "-m", "pip", "list"], capture_output=True, text=True).stdout.split("\n")
        versions = dict(line.split()[:2] for line in listed if len(line.split()) > 1)
        packages = ", ".join(f"{each} {versions[each]}" for each in SHOWN if each in versions)
    shutil.rmtree(folder, ignore_errors=True)
    return result, packages


def steps_of(python: str, folder: Path, constraints: str, tests: Sequence[str]) -> dict[str, list[str]]:
    """The commands of one entry, in their order."""
    own = str(folder / "bin/python")
    return {
        "environment": [python, "-m", "venv", str(folder)],
        "pip": [own, "-m", "pip", "install", "-q", "--upgrade", "pip"],
        "installation": [own, "-m", "pip", "install", "-q", "-e", ".[test]", "-c", constraints],
        "tests": [own, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", *tests],
    }


def is_refused(step: str, said: str) -> bool:
    """Whether an installation failed for want of a network or of room, and not by what was asked for."""
    return step in PIP and "ResolutionImpossible" not in said and any(words in said for words in REFUSED)


def last_lines(said: str, count: int) -> str:
    """The last lines of a log, as one."""
    return " | ".join(said.splitlines()[-count:])


if __name__ == "__main__":
    sys.exit(main())
