import csv
import sys
from dataclasses import replace

import pytest
import torch

from lightning_mi.ranking.rank import RankedModel, Ranking
from lightning_mi.ranking.report import format_ranking, plot_ranking, write_ranking_csv
from tests.helpers.histories import estimate


def test_table(ranking):
    header, *rows = format_ranking(ranking).splitlines()
    assert " ".join(header.split()) == "rank model bound ± stderr delta to best ± stderr pairs skipped"
    none = ranking.models[0]
    assert rows[0].split() == ["1", "none", f"{none.bound:.3f}", "±", f"{none.stderr:.3f}", "200", "0"]
    much = ranking.models[2]
    assert f"{much.delta_to_best:.3f} ± {much.delta_to_best_stderr:.3f}" in rows[2]
    assert "nats" in rows[3]


def test_csv(ranking, tmp_path):
    path = tmp_path / "folder" / "ranking.csv"
    write_ranking_csv(ranking, path)
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["none", "a little", "much"]
    assert [row["rank"] for row in rows] == ["1", "2", "3"]
    for row, model in zip(rows, ranking.models, strict=True):
        for column in ("bound", "stderr", "delta_to_best", "delta_to_best_stderr", "pairs", "skipped"):
            assert float(row[column]) == getattr(model, column)
    assert float(rows[0]["ceiling"]) == pytest.approx(torch.tensor(8.0).log().item())
    assert len(rows[0]) == 9


def test_layers_and_gaps_in_csv_and_table(parts_ranking, tmp_path):
    write_ranking_csv(parts_ranking, tmp_path / "ranking.csv")
    with open(tmp_path / "ranking.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row, model in zip(rows, parts_ranking.models, strict=True):
        for part, key in {
            "layers/rnn": ("rnn", "near"),
            "layers/head": ("head", "near"),
            "gap_near": ("head", "near"),
            "gap_0.25": ("head", "0.25"),
        }.items():
            assert float(row[f"{part}/bound"]) == model.estimates[key].bound
            assert float(row[f"{part}/stderr"]) == model.estimates[key].stderr
    assert len(rows) == 2
    table = format_ranking(parts_ranking)
    assert [line.split()[0] for line in table.splitlines()[-4:]] == [
        "layers/head",
        "layers/rnn",
        "gap_near",
        "gap_0.25",
    ]


def test_plot(ranking, tmp_path):
    figure = plot_ranking(ranking, tmp_path / "folder" / "ranking.png")
    assert (tmp_path / "folder" / "ranking.png").read_bytes()[:4] == b"\x89PNG"
    bounds, below = figure.axes
    assert [label.get_text() for label in bounds.get_yticklabels()] == ["none", "a little", "much"]
    assert "lower bound" in bounds.get_xlabel()
    for axes, values in ((bounds, "bound"), (below, "delta_to_best")):
        assert "(nats)" in axes.get_xlabel()
        points = axes.containers[0][0]
        assert points.get_xdata().tolist() == [getattr(model, values) for model in ranking.models]
        assert points.get_ydata().tolist() == [0, 1, 2]
    low, high = bounds.get_ylim()
    assert low > high  # the best on top


def test_paths_are_shortened_by_the_folder_that_all_are_in(ranking):
    names = ["runs/a/one.ckpt", "runs/b/two.ckpt", "untrained"]
    models = [replace(model, name=name) for model, name in zip(ranking.models, names, strict=True)]
    shortened = Ranking(tuple(models), {})
    assert "\n   1  a/one.ckpt " in format_ranking(shortened)
    assert "Models are in runs." in format_ranking(shortened)
    labels = [label.get_text() for label in plot_ranking(shortened).axes[0].get_yticklabels()]
    assert labels == ["a/one.ckpt", "b/two.ckpt", "untrained"]


def test_a_plot_without_matplotlib_says_what_to_install(ranking, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'lightning-mi\[plot\]'"):
        plot_ranking(ranking)


def test_layers_of_awkward_names_have_rows_and_columns_of_their_own(tmp_path):
    """Names of our own metrics, and names with the separators of tags and of modules."""
    names = ["gap_near", "bound", "features", "a/b", "a.b", "layers/x", "output"]
    estimates = {(name, "near"): estimate(0.1 * number) for number, name in enumerate(names)}
    estimates[names[0], "far"] = estimate(0.9)
    model = RankedModel("m", 0.0, 0.1, 0.0, 0.0, 100, 0, estimates)
    ranking = Ranking((model,), {})
    write_ranking_csv(ranking, tmp_path / "ranking.csv")
    with open(tmp_path / "ranking.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    table = format_ranking(ranking)
    for number, name in enumerate(names):
        assert float(row[f"layers/{name}/bound"]) == pytest.approx(0.1 * number)
        assert f"layers/{name} " in table
    assert float(row["gap_far/bound"]) == pytest.approx(0.9)
    assert float(row["gap_near/bound"]) == 0.0
