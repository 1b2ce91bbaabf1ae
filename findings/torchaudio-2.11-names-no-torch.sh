#!/usr/bin/env bash
# torchaudio 2.10.0 and 2.11.0, Linux x86-64 wheels, Python 3.11; seen 2026-11-28. Downloads about 4 GB.
#
# The metadata of torchaudio 2.11.0 names no torch, neither a version nor the package; up to 2.10.0 it asked for the torch of
# its own version. So pip installs 2.11.0 beside any torch without a word, or without one. Its compiled part is loaded at
# import: beside torch 2.10.0 (CUDA 12.8) `import torchaudio` raises OSError, while it works beside 2.12 to 2.14.
#
# Expected before it was run: the pair is pinned as before, and pip refuses torch 2.10.0 with torchaudio 2.11.0.
#
# Output seen:
#   2.10.0 asks for ['torch==2.10.0']
#   2.11.0 asks for []
#   torch 2.10.0, torchaudio 2.11.0: OSError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
python="$folder/venv/bin/python"
{
  for version in 2.10.0 2.11.0; do
    "$python" -m pip download --quiet --no-deps --dest "$folder/$version" "torchaudio==$version"
    "$python" - "$version" "$folder/$version"/*.whl <<'PROGRAM'
import sys
import zipfile
from email.parser import Parser

version, wheel = sys.argv[1:]
with zipfile.ZipFile(wheel) as opened:
    (name,) = (each for each in opened.namelist() if each.endswith(".dist-info/METADATA"))
    asked = Parser().parsestr(opened.read(name).decode()).get_all("Requires-Dist", [])
print(f"{version} asks for {asked}")
PROGRAM
  done
  "$python" -m pip install --quiet --no-cache-dir torch==2.10.0 torchaudio==2.11.0 numpy
  "$python" - <<'PROGRAM'
from importlib.metadata import version

try:
    import torchaudio  # noqa: F401

    seen = "imported"
except Exception as error:
    seen = type(error).__name__
print(f"torch {version('torch')}, torchaudio {version('torchaudio')}: {seen}")
PROGRAM
} | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
2.10.0 asks for ['torch==2.10.0']
2.11.0 asks for []
torch 2.10.0, torchaudio 2.11.0: OSError
SEEN
