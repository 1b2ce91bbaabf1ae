"""The table of the settings, against scipy."""

import pytest

pytest.importorskip("torchaudio")
pytest.importorskip("sklearn")

import scipy.stats

from lightning_mi.examples.model_selection.analysis.settings import settings_table
from lightning_mi.examples.model_selection.scores.grid import CHANGES, settings
from tests.helpers.model_selection import noise_results


def test_a_row_for_each_change_and_the_mean_over_zoos():
    names = [setting.name for setting in settings()]
    zoos = [noise_results(seed, names=names) for seed in (0, 1)]
    header, _, *rows = settings_table(zoos, patience=2)
    assert header.count("|") == 6
    assert len(rows) == len(CHANGES)
    rho = sum(
        scipy.stats.spearmanr(zoo.scores[:, names.index("mi_bound()")], zoo.accuracy["phone"]).statistic
        for zoo in zoos
    )
    assert rows[0].split(" | ")[1].startswith(f"{rho / 2:+.2f}, ")
