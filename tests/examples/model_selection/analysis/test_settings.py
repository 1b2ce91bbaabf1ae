"""The table of the settings, against scipy."""

import pytest

pytest.importorskip("torchaudio")
pytest.importorskip("sklearn")

import scipy.stats

from lightning_mi.examples.model_selection.analysis.settings import settings_table, views_table
from lightning_mi.examples.model_selection.scores.grid import CHANGES, CONTENT, VIEW_CHANGES, settings
from lightning_mi.examples.model_selection.scores.registry import score_names
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


def test_the_scores_of_views_stand_beside_each_other():
    names = sorted(name for name in score_names() if "speed=" in name)
    zoo = noise_results(0, names=names)
    header, _, *rows = views_table([zoo], patience=2)
    assert header.count("|") == 10
    assert len(rows) == len(VIEW_CHANGES)
    for column, name in ((1, CONTENT.name), (3, CONTENT.minus_far), (7, CONTENT.with_later)):
        rho = scipy.stats.spearmanr(zoo.scores[:, names.index(name)], zoo.accuracy["phone"]).statistic
        assert rows[0].split(" | ")[column].startswith(f"{rho:+.2f}, ")
