"""What .ci/matrix.py skips and what fails it: pip's own words, as pip 25 and 26 say them."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HERE = f"{sys.version_info.major}.{sys.version_info.minor}:pinned"

NO_INDEX = """
WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError("HTTPConnection(host='127.0.0.1')")'
ERROR: Could not find a version that satisfies the requirement six (from versions: none)
ERROR: No matching distribution found for six
"""
NO_ROOM = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"
NO_VERSION = """
ERROR: Could not find a version that satisfies the requirement six==99.0 (from versions: 1.16.0, 1.17.0)
ERROR: No matching distribution found for six==99.0
"""
CONFLICT = """
WARNING: Retrying (Retry(total=4)) after connection broken by 'ReadTimeoutError("Read timed out.")'
ERROR: Cannot install torch>=2.8 because these package versions have conflicting dependencies.
ERROR: ResolutionImpossible: for help visit the documentation
"""


@pytest.fixture
def matrix(tmp_path):
    spec = importlib.util.spec_from_file_location("matrix", ROOT / ".ci/matrix.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.FOLDER = tmp_path
    return module


@pytest.mark.parametrize(
    ("said", "refused"), [(NO_INDEX, True), (NO_ROOM, True), (NO_VERSION, False), (CONFLICT, False)]
)
def test_an_installation_that_the_network_refuses_is_no_failure(matrix, said, refused):
    assert matrix.is_refused("installation", said) is refused
    assert not matrix.is_refused("tests", said)


@pytest.mark.parametrize(
    ("commands", "status", "shown"),
    [
        ({"tests": "echo '=== 3 passed in 0.01s ==='"}, 0, "3 passed in 0.01s"),
        ({"tests": "echo 1 failed, 2 passed; exit 1"}, 1, "failed at the tests: 1 failed, 2 passed"),
        ({"tests": "echo No space left on device; exit 1"}, 1, "failed at the tests"),
        ({"tests": "sleep 5"}, 1, "failed at the tests: more than"),
        ({"installation": "echo '(from versions: none)'; exit 1"}, 0, "skipped at the installation"),
        ({"installation": "sleep 5"}, 0, "skipped at the installation: more than"),
        ({"installation": "echo ResolutionImpossible; exit 1"}, 1, "failed at the installation"),
    ],
)
def test_the_status_of_an_entry(matrix, monkeypatch, capsys, commands, status, shown):
    """The commands of the steps are replaced by what a shell says."""
    steps = {step: ["sh", "-c", commands.get(step, "true")] for step in ("environment", "installation", "tests")}
    monkeypatch.setattr(matrix, "steps_of", lambda *_: steps)
    monkeypatch.setattr(matrix, "find_python", lambda version: sys.executable)
    monkeypatch.setattr(matrix, "ROOM", 0.0)
    assert matrix.main(["--minutes", "0.005", HERE]) == status
    assert shown in capsys.readouterr().out


def test_without_room_or_python_an_entry_is_skipped_and_says_so(matrix, monkeypatch, capsys):
    monkeypatch.setattr(matrix, "find_python", lambda version: sys.executable if version == "3.12" else None)
    monkeypatch.setattr(matrix, "ROOM", float("inf"))
    assert matrix.main(["3.12:newest", "3.1:oldest"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("3.12:newest: skipped, ")
    assert "GB are free" in first
    assert second == "3.1:oldest: skipped, there is no python3.1"


def test_the_interpreter_that_is_found_is_of_that_version(matrix):
    version = HERE.partition(":")[0]
    found = matrix.find_python(version)
    if found is None:
        pytest.skip(f"no python{version} on the path")
    said = matrix.subprocess.run([found, "--version"], capture_output=True, text=True).stdout
    assert said.startswith(f"Python {version}.")
