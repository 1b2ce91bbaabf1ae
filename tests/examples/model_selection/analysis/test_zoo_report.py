"""The tables of the report, against scipy."""

import pytest

pytest.importorskip("torchaudio")
pytest.importorskip("sklearn")

import scipy.stats

from lightning_mi.examples.model_selection.analysis.selection import CrossZooSelection
from lightning_mi.examples.model_selection.analysis.table import write
from lightning_mi.examples.model_selection.analysis.zoo_report import Ranking, cross_zoo_lines, short_lines
from tests.helpers.model_selection import composed, noise_results, with_score


def test_another_zoo_chooses_the_baselines(tmp_path):
    seen, tested = noise_results(0), noise_results(1)
    seen = with_score(seen, "RankMe(means)", seen.accuracy["phone"])
    tested = with_score(tested, "RankMe(frames)", tested.accuracy["phone"])  # the best here, which nobody may know
    tested = with_score(tested, "mi_bound()", tested.accuracy["phone"])
    (tmp_path / "report").mkdir()
    write(seen, tmp_path / "report/checkpoints.csv")
    config = composed(f"report.chosen_in=[{tmp_path}]", "report.bootstraps=20")
    table = cross_zoo_lines(CrossZooSelection.of(tested, config.report), "phone", config)
    assert table[0].startswith("20 checkpoints of 5 runs")
    assert sum("`RankMe(means)`" in line for line in table) == 1
    assert not any("RankMe(frames)" in line for line in table)
    (default,) = (line for line in table if line.startswith("| `mi_bound()` |"))
    baseline = scipy.stats.spearmanr(tested.scores[:, 2], tested.accuracy["phone"]).statistic
    assert "| +1.00 [+1.00, +1.00] | +1.00 | 0.0 | 0.0 |" in default
    assert f"| {1 - baseline:+.2f} [" in default


def test_the_short_table_has_a_row_for_each_score():
    made = noise_results()
    made = with_score(made, "RankMe(means)", made.accuracy["phone"])
    rankings = {
        task: Ranking.of(made.zoo(task), made.accuracy["speaker"], times=20, patience=2, seed=0)
        for task in made.accuracy
    }
    header, _, *rows = short_lines(made, rankings)
    assert header.startswith(
        "| score | phones: Spearman [95 %] | regret, points | early stopping, points | speakers"
    )
    names = [row.split(" | ")[0] for row in rows]
    assert names == [
        "| `mi_bound()`",
        "| `RankMe(means)`",
        "| `validation loss`",
        "| labelled bound on the same segments",
    ]
    rho = scipy.stats.spearmanr(made.scores[:, 0], made.accuracy["phone"]).statistic
    assert rows[0].startswith(f"| `mi_bound()` | {rho:+.2f} [")
    assert rows[2].startswith("| `validation loss` | - | - | ")
