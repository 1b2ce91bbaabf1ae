"""TensorBoard of a folder of logs in a headless Chromium: the page as HTML and as a picture.

The picture of the reference, after ``make demo``:

    python -m tests.helpers.tensorboard_page runs examples/tensorboard.png
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from PIL import Image

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
    "--virtual-time-budget=20000",  # of the page's clock, in ms: it loads what is on the screen
    "--disable-3d-apis",  # else a thread that does not keep to that clock draws the charts
)
_SHOWN = "mi_bound/(curve|clusters|input|gain)$|^val/(loss|mi_bound)$"  # all would make a long picture


@contextmanager
def served(logs: Path) -> Iterator[str]:
    """The address of a TensorBoard of these logs, once it shows ``mi_bound/curve``."""
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port = opened.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logs)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--load_fast=false"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}/"
    try:
        for _ in range(120):
            try:
                tags = urllib.request.urlopen(f"{address}data/plugin/images/tags", timeout=5).read()
                if b"mi_bound/curve" in tags:
                    break
            except (urllib.error.URLError, OSError):
                pass
            time.sleep(0.5)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=30)


def open_page(address: str, picture: Path, size: tuple[int, int], tags: str = "") -> str:
    """Open the tab of time series; its HTML. What the window shows is written to ``picture``.

    Args:
        address: Where TensorBoard is served.
        picture: Path of a PNG.
        size: Width and height of the window.
        tags: A regular expression of the tags that are shown.
    """
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory() as profile:
        command = [CHROMIUM, *FLAGS, f"--window-size={size[0]},{size[1]}", f"--user-data-dir={profile}"]
        command += [
            f"--screenshot={picture}",
            "--dump-dom",
            f"{address}?smoothing=0&tagFilter={quote(tags)}#timeseries",
        ]
        for _ in range(3):  # on a busy machine the page's clock may end before it is drawn
            run = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=profile)
            if run.stdout.count("<img") >= 2:
                break
    return run.stdout


def main(logs: str, picture: str) -> None:
    """Write the picture, with few colours, so that it is small."""
    with served(Path(logs)) as address, tempfile.TemporaryDirectory() as folder:
        open_page(address, Path(folder) / "page.png", (1400, 1360), _SHOWN)
        page = Image.open(Path(folder) / "page.png").convert("RGB")
        page.quantize(128, dither=Image.Dither.NONE).save(picture, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
