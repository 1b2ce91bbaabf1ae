"""The runs that the configs describe."""

import pytest

pytest.importorskip("torchaudio")
pytest.importorskip("sklearn")

from lightning_mi.examples.model_selection.zoo import runs, selected
from tests.helpers.model_selection import composed


@pytest.mark.parametrize("name", ["small", "full"])
def test_zoos_compose_and_build(name):
    config = composed(f"zoo={name}")
    every = runs(config)
    assert {run.objective for run in every} == {"apc", "hubert", "cpc"}
    assert any(run.degenerate for run in every)
    for run in every:
        assert sum(p.numel() for p in run.build().parameters()) > 1000
    if name == "full":
        assert sum(len(run.steps) for run in every) >= 60
        for kind in ("apc", "hubert", "cpc"):
            assert sum(run.objective == kind and not run.degenerate for run in every) >= 3


def test_a_run_of_no_objective_is_an_error():
    with pytest.raises(ValueError, match=r"runs.apc.objective: got 'acp'"):
        runs(composed("zoo=small", "runs.apc.objective=acp"))


def test_runs_are_selected_by_a_glob():
    assert [run.name for run in selected(composed("zoo=small", "only=apc*"))] == ["apc", "apc_near"]
