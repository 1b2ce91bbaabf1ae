"""Settings are chosen on some runs and tested on others."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torchaudio")
pytest.importorskip("sklearn")

from lightning_mi.examples.model_selection.analysis.selection import (
    ANY_BASELINE,
    BASELINES,
    CrossZooSelection,
    SplitSelection,
    columns_of,
)
from lightning_mi.examples.model_selection.analysis.table import write
from tests.helpers.model_selection import composed, noise_results, with_score


def written(results, folder):
    (folder / "report").mkdir(parents=True)
    write(results, folder / "report/checkpoints.csv")
    return folder


def test_a_family_is_the_name_before_the_parenthesis():
    results = noise_results(
        names=("mi_bound()", "mi_bound(pooling=mean)", "near_minus_far()", "RankMe(means)", "LiDAR(x)")
    )
    assert columns_of(results, "mi_bound") == [0, 1]
    assert columns_of(results, "near_minus_far") == [2]
    assert columns_of(results, ANY_BASELINE) == [3, 4]
    assert columns_of(results, "clusters") == []


def test_the_half_that_chooses_is_not_the_half_that_is_tested():
    results = noise_results()
    perfect = with_score(results, "RankMe(frames)", results.accuracy["phone"])
    found = SplitSelection.of(perfect, "phone", splits=20, seed=0)
    assert found.picks["RankMe"] == {"RankMe(frames)": 20}
    assert (found.spearman["RankMe"] == 1).all()
    assert (found.regrets["RankMe"] == 0).all()
    # Noise is chosen because it ranks the one half well, and ranks the other by chance.
    noise = SplitSelection.of(results, "phone", splits=200, seed=0)
    assert abs(noise.spearman["RankMe"].mean()) < 0.3


def test_other_zoos_choose_what_ranks_best_within_each(tmp_path):
    folders = []
    for name, offset in (("one", 0.0), ("other", 100.0)):
        # The first ranks perfectly within each zoo; the second tells one zoo from the other only.
        seen = noise_results(int(offset))
        seen = replace(seen, accuracy={task: values + offset for task, values in seen.accuracy.items()})
        seen = with_score(seen, "RankMe(means)", seen.accuracy["phone"] - offset)
        folders.append(written(with_score(seen, "RankMe(frames)", offset), tmp_path / name))
    config = composed(f"report.chosen_in=[{folders[0]},{folders[1]}]").report
    fresh = noise_results(1)
    found = CrossZooSelection.of(fresh, config)
    assert found.source.startswith("the 40 checkpoints of")
    assert found.chosen("phone", BASELINES) == {"RankMe": fresh.names.index("RankMe(means)")}


def test_no_other_zoo_is_no_selection():
    assert CrossZooSelection.of(noise_results(), composed().report) is None


def test_a_zoo_without_report_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"run report\.py"):
        CrossZooSelection.of(noise_results(), composed(f"report.chosen_in=[{tmp_path}]").report)


def test_one_run_cannot_be_split():
    results = noise_results()
    one = replace(
        results,
        checkpoints=results.checkpoints[:4],
        scores=results.scores[:4],
        accuracy={task: values[:4] for task, values in results.accuracy.items()},
    )
    with pytest.raises(ValueError, match="runs: got one"):
        SplitSelection.of(one, "phone", splits=1, seed=0)
    assert np.isfinite(SplitSelection.of(results, "phone", splits=1, seed=0).spearman["RankMe"]).all()
