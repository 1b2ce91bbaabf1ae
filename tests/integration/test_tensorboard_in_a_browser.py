"""TensorBoard as people look at it: a headless Chromium finds the groups, the charts and the figures."""

import html
import io
import re
import urllib.request

import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image

from tests.helpers.tensorboard_page import CHROMIUM, open_page, served
from tests.integration.test_user_loggers import fit


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium; on Debian: apt-get install chromium")
def test_a_browser_shows_the_groups_the_charts_and_the_figures(tmp_path):
    fit(TensorBoardLogger(tmp_path / "runs"), tmp_path)
    with served(tmp_path / "runs") as address:
        page = open_page(address, tmp_path / "page.png", (1400, 4000))
        groups = re.findall(r'class="group-title" title="([^"]*)"', page)
        assert [name for name in groups if name in ("mi_bound", "val")] == ["mi_bound", "val"]
        titles = set(re.findall(r'title="(mi_bound/[^"]*)"', page))  # further groups are folded at first
        assert titles >= {"mi_bound/curve", "mi_bound/clusters", "mi_bound/ceiling", "mi_bound/entropy"}
        sources = [html.unescape(source) for source in re.findall(r'<img[^>]* src="(data/plugin/[^"]*)"', page)]
        assert len(sources) == 2
        for source in sources:
            figure = Image.open(io.BytesIO(urllib.request.urlopen(address + source, timeout=30).read())).convert(
                "L"
            )
            assert figure.size[0] > 500
            assert figure.getextrema()[0] < 100 < 250 < figure.getextrema()[1]  # lines on white
    assert len(re.findall(r'<path[^>]* d="M[\d.-]+,[\d.-]+L', page)) > 5  # the lines of the charts
    shown = Image.open(tmp_path / "page.png")
    assert len(shown.convert("RGB").getcolors(maxcolors=1 << 24) or []) > 100
