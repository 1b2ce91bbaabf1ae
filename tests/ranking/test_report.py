import csv
import sys
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

from lightning_mi.ranking.rank import RankedModel, Ranking
from lightning_mi.ranking.report import format_ranking, plot_ranking, write_ranking_csv
from tests.helpers.histories import estimate


def test_the_table_has_a_row_for_each_model_the_best_first(ranking):
    header, *rows = format_ranking(ranking).splitlines()
    assert " ".join(header.split()) == "rank model bound ± stderr delta to best ± stderr pairs skipped"
    none = ranking.models[0]
    assert rows[0].split() == ["1", "none", f"{none.bound:.3f}", "±", f"{none.stderr:.3f}", "200", "0"]
    much = ranking.models[2]
    assert f"{much.delta_to_best:.3f} ± {much.delta_to_best_stderr:.3f}" in rows[2]
    assert "nats" in rows[3]


def test_the_csv_has_every_value_in_full_precision(ranking, tmp_path):
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


def test_layers_and_gaps_have_columns_and_rows_of_their_own(parts_ranking, tmp_path):
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


def test_the_plot_is_the_bounds_and_the_deltas_the_best_on_top(ranking, tmp_path):
    figure = plot_ranking(ranking, tmp_path / "folder" / "ranking.png")
    assert (tmp_path / "folder" / "ranking.png").read_bytes()[:4] == b"\x89PNG"
    bounds, deltas = figure.axes
    assert [label.get_text() for label in bounds.get_yticklabels()] == ["none", "a little", "much"]
    assert "lower bound" in bounds.get_xlabel()
    for axes, values in ((bounds, "bound"), (deltas, "delta_to_best")):
        assert "(nats)" in axes.get_xlabel()
        points = axes.containers[0][0]
        assert points.get_xdata().tolist() == [getattr(model, values) for model in ranking.models]
        assert points.get_ydata().tolist() == [0, 1, 2]
    low, high = bounds.get_ylim()
    assert low > high  # the best on top


def named(ranking, *names):
    """The ranking with other names."""
    models = zip(ranking.models, names, strict=True)
    return Ranking(tuple(replace(model, name=name) for model, name in models), {})


def row_labels(figure):
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def test_paths_are_relative_to_the_folder_that_they_share(ranking):
    shortened = named(ranking, "runs/a/one.ckpt", "runs/b/two.ckpt", "untrained")
    assert "\n   1  a/one.ckpt " in format_ranking(shortened)
    assert "Models are in runs." in format_ranking(shortened)
    assert row_labels(plot_ranking(shortened)) == ["a/one.ckpt", "b/two.ckpt", "untrained"]


def test_paths_stay_whole_if_they_would_become_equal(ranking):
    table = format_ranking(named(ranking, "last.ckpt", "runs/last.ckpt", "untrained"))
    assert [line.split()[1] for line in table.splitlines()[1:4]] == ["last.ckpt", "runs/last.ckpt", "untrained"]
    assert "Models are in" not in table


def test_rows_of_the_plot_have_distinct_labels_that_fit(ranking, tmp_path):
    names = [f"runs/2026-01-0{day}_12-00-00/checkpoints/epoch=99-step=50000.ckpt" for day in (1, 2, 3)]
    figure = plot_ranking(named(ranking, *names), tmp_path / "ranking.png")
    assert len(set(row_labels(figure))) == 3
    pixels = np.asarray(Image.open(tmp_path / "ranking.png").convert("RGB"))
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert (border == 255).all()  # no letter is cut
    left, right = (axes.xaxis.label.get_window_extent() for axes in figure.axes)
    assert left.x1 < right.x0


def test_a_name_is_not_read_as_a_formula(ranking, tmp_path):
    figure = plot_ranking(named(ranking, r"a$\x$b", "c", "d"), tmp_path / "ranking.png")
    assert row_labels(figure)[0] == r"a$\x$b"


def test_the_users_style_does_not_apply_to_the_plot(ranking, tmp_path):
    plot_ranking(ranking, tmp_path / "plain.png")
    with matplotlib.rc_context({"axes.facecolor": "black", "font.size": 30, "savefig.dpi": 30}):
        plot_ranking(ranking, tmp_path / "dark.png")
    assert (tmp_path / "dark.png").read_bytes() == (tmp_path / "plain.png").read_bytes()


def test_a_plot_without_matplotlib_is_an_error_with_the_remedy(ranking, monkeypatch):
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
