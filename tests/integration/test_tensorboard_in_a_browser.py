"""TensorBoard as people look at it: a headless Chromium finds the groups, the charts and the figures."""

import html
import io
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image

from tests.integration.test_user_loggers import fit

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--window-size=1400,4000"),
    "--virtual-time-budget=20000",  # of the page's clock, in ms: it loads what is on the screen
)


def free_port():
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


@pytest.fixture
def served(tmp_path):
    """The address of a TensorBoard of a fit of two epochs."""
    fit(TensorBoardLogger(tmp_path / "runs"), tmp_path)
    port = free_port()
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(tmp_path / "runs")]
    command += ["--host", "127.0.0.1", "--port", str(port), "--load_fast=false"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}/"
    try:
        for _ in range(120):
            try:
                if (
                    b"mi_bound/curve"
                    in urllib.request.urlopen(f"{address}data/plugin/images/tags", timeout=5).read()
                ):
                    break
            except (urllib.error.URLError, OSError):
                pass
            time.sleep(0.5)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=30)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium; on Debian: apt-get install chromium")
def test_a_browser_shows_the_groups_the_charts_and_the_figures(served, tmp_path):
    command = [
        CHROMIUM,
        *FLAGS,
        f"--user-data-dir={tmp_path / 'profile'}",
        f"--screenshot={tmp_path / 'page.png'}",
    ]
    command += ["--dump-dom", f"{served}#timeseries"]
    for _ in range(3):  # on a busy machine the page's clock may end before it is drawn
        page = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path).stdout
        if page.count("<img") >= 2:
            break
    groups = re.findall(r'class="group-title" title="([^"]*)"', page)
    assert [name for name in groups if name in ("mi_bound", "val")] == ["mi_bound", "val"]
    titles = set(re.findall(r'title="(mi_bound/[^"]*)"', page))  # further groups are folded at first
    assert titles >= {"mi_bound/curve", "mi_bound/clusters", "mi_bound/ceiling", "mi_bound/entropy"}
    sources = [html.unescape(source) for source in re.findall(r'<img[^>]* src="(data/plugin/[^"]*)"', page)]
    assert len(sources) == 2
    for source in sources:
        figure = Image.open(io.BytesIO(urllib.request.urlopen(served + source, timeout=30).read())).convert("L")
        assert figure.size[0] > 500
        assert figure.getextrema()[0] < 100 < 250 < figure.getextrema()[1]  # lines on white
    shown = Image.open(tmp_path / "page.png")
    assert len(shown.convert("RGB").getcolors(maxcolors=1 << 24) or []) > 100  # charts were drawn
