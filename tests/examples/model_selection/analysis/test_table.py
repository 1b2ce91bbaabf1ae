"""Results are written, read and put together."""

import math

import numpy as np
import pytest

pytest.importorskip("torchaudio")
pytest.importorskip("sklearn")

from lightning_mi.examples.model_selection.analysis.table import LOSS, read, together, write
from tests.helpers.model_selection import noise_results, with_score


def test_what_is_written_is_read(tmp_path):
    made = with_score(noise_results(), LOSS, -math.inf)
    write(made, tmp_path / "kept.csv")
    found = read(tmp_path / "kept.csv")
    assert found.checkpoints == made.checkpoints
    assert found.names == made.names
    np.testing.assert_allclose(found.scores, made.scores, rtol=1e-5)
    for name in made.accuracy:
        np.testing.assert_allclose(found.accuracy[name], made.accuracy[name], rtol=1e-5)
        np.testing.assert_allclose(found.labelled[name], made.labelled[name], rtol=1e-5)
    with pytest.raises(FileNotFoundError, match=r"run report\.py"):
        read(tmp_path / "none.csv")


def test_zoos_together_share_scores_and_no_runs():
    one, other = (
        noise_results(0),
        noise_results(1, names=(LOSS, "RankMe(means)", "mi_bound()"), tasks=("speaker",)),
    )
    both = together([one, other])
    assert both.names == ["mi_bound()", "RankMe(means)", LOSS]
    assert list(both.accuracy) == ["speaker"]
    zoo = both.zoo("speaker")
    assert len(np.unique(zoo.runs)) == 10
    assert zoo.normal.sum() == 32
    at = both.names.index("RankMe(means)")
    assert both.scores[:, at].tolist() == [*one.scores[:, 2], *other.scores[:, 1]]
    assert zoo.accuracy.tolist() == [*one.accuracy["speaker"], *other.accuracy["speaker"]]
