import io
import math
import re
import subprocess
import sys

import numpy as np
import pytest

from lightning_mi.reporting.history import History
from tests.helpers.histories import estimate, history

pytest.importorskip("matplotlib")

from lightning_mi.reporting import plots

KEY = ("encoder", "near")
DRAW = {"curve": plots.bound_curve, "map": plots.layer_map, "clusters": plots.cluster_usage}


def line(axes, label):
    (found,) = [line for line in axes.lines if str(line.get_label()).startswith(label)]
    return found


def labels(axes):
    return list(axes.get_legend_handles_labels()[1])


def texts(axes):
    return [text.get_text() for text in axes.texts]


def of_bounds(*bounds, entropy=4.5, clusters=128, stderr=0.03):
    made = History()
    for epoch, bound in enumerate(bounds):
        made.append(epoch, 10 * epoch, {KEY: estimate(bound, stderr, entropy, clusters)})
    return made


# ---- the curve


def test_the_curve_is_the_primary_bound_with_two_standard_errors():
    (axes,) = plots.bound_curve(of_bounds(0.5, 1.5, 1.0)).axes
    assert line(axes, "bound").get_xydata() == pytest.approx(np.array([[0, 0.5], [1, 1.5], [2, 1.0]]))
    (band,) = axes.collections
    corners = band.get_paths()[0].vertices
    assert corners[:, 1].min() == pytest.approx(0.5 - 0.06)
    assert corners[:, 1].max() == pytest.approx(1.5 + 0.06)
    assert line(axes, "best").get_xydata() == pytest.approx(np.array([[1, 1.5]]))
    assert "best, 1.50 ± 0.03, epoch 1" in labels(axes)
    assert axes.get_xlabel() == "epoch"
    assert axes.get_ylabel() == "lower bound (nats)"
    assert axes.get_title() == "Mutual information of two segments"


@pytest.mark.parametrize("epochs", [1, 2, 12, 90])
def test_a_validation_before_training_is_called_start(epochs):
    made = History()
    for epoch in range(-1, epochs):
        bounds = {(f"layers.{layer}", "near"): estimate(1.0 - 0.01 * (epoch + 1) * layer) for layer in (1, 0)}
        made.append(epoch, 10 * (epoch + 1), bounds)
    for draw in (plots.bound_curve, plots.layer_map):
        axes = draw(made).axes[0]
        names = [label.get_text() for label in axes.get_xticklabels()]
        assert names[0] == "start"
        assert axes.get_xticks()[0] == -1
        assert names[1:] == [f"{tick:.0f}" for tick in axes.get_xticks()[1:]]
        assert len(names) <= 9
    assert "best: 1.00 nats, layer 0, before training" in axes.get_title()


def test_near_ceilings_are_lines():
    (axes,) = plots.bound_curve(of_bounds(1.5, 1.8, entropy=2.0, clusters=8)).axes
    assert set(line(axes, "ceiling").get_ydata()) == {math.log(8)}
    assert line(axes, "entropy").get_ydata() == pytest.approx([2.0, 2.0])
    assert texts(axes) == []
    assert axes.get_ylim()[1] > math.log(8)


def test_far_ceilings_are_named_and_do_not_flatten_the_curve():
    (axes,) = plots.bound_curve(of_bounds(0.2, 0.3)).axes
    assert texts(axes) == ["off the scale: ceiling log K = 4.85, entropy H(c) = 4.50"]
    assert axes.get_ylim()[1] < 0.5


def test_a_collapsed_quantiser_shows_its_entropy_at_zero():
    (axes,) = plots.bound_curve(of_bounds(0.0, 0.0, entropy=0.0, stderr=0.0)).axes
    assert list(line(axes, "entropy").get_ydata()) == [0, 0]
    assert texts(axes) == ["off the scale: ceiling log K = 4.85"]
    bottom, top = axes.get_ylim()
    assert bottom < 0 < top  # the line of zeros is not hidden by the edge


def test_references_are_lines_and_one_measured_once_is_level():
    made = History()
    nulls = [0.0, 0.01, 0.0]
    for epoch, null in enumerate(nulls):
        references = {"null": estimate(null)} | ({"input baseline": estimate(0.62)} if epoch == 0 else {})
        made.append(epoch, epoch, {KEY: estimate(1.0 + epoch)}, references)
    (axes,) = plots.bound_curve(made).axes
    assert line(axes, "null").get_ydata() == pytest.approx(nulls)
    assert list(line(axes, "input baseline, 0.62").get_ydata()) == pytest.approx([0.62, 0.62])
    assert list(line(axes, "input baseline, 0.62").get_xdata()) == [0, 1]  # of the axes: all across


def test_several_validations_an_epoch_are_drawn_over_steps():
    made = History()
    for step in range(4):
        made.append(step // 2, 50 * step, {KEY: estimate(1.0 + step)})
    for draw in DRAW.values():
        axes = draw(made).axes[0]
        assert axes.get_xlabel() == "training step"
    (axes,) = plots.bound_curve(made).axes
    assert list(line(axes, "bound").get_xdata()) == [0, 50, 100, 150]
    assert "best, 4.00 ± 0.03, step 150" in labels(axes)


def test_the_monitored_layer_is_named_if_there_are_several():
    assert plots.bound_curve(history(3, 4)).axes[0].get_title().endswith("\nlayer model.layers.3")
    made = History()
    for epoch, first in enumerate("ab"):
        made.append(epoch, epoch, {(name, "near"): estimate(1.0) for name in (first, "c")})
    assert plots.bound_curve(made).axes[0].get_title().endswith("\nmonitored layer of each validation")


# ---- the map


def test_the_map_holds_the_bound_of_every_layer_at_every_epoch():
    made = history(3, 12)
    figure = plots.layer_map(made)
    axes, bar = figure.axes
    (mesh,) = [each for each in axes.collections if each.get_array() is not None]
    values = mesh.get_array()
    assert values.shape == (12, 3)
    for column, validation in enumerate(made):
        for layer in range(12):
            assert values[layer, column] == pytest.approx(validation.layers[f"model.layers.{layer}"].bound)
    assert [label.get_text() for label in axes.get_yticklabels()] == [str(layer) for layer in range(12)]
    assert axes.get_ylabel() == "layer (model.layers.*)"
    assert bar.get_ylabel() == "lower bound (nats)"
    assert mesh.get_cmap().name == "viridis"
    best = np.unravel_index(values.argmax(), values.shape)
    assert axes.lines[0].get_xydata() == pytest.approx(np.array([[best[1], best[0]]]))
    assert f"{values.max():.2f} nats, layer {best[0]}, epoch {best[1]}" in axes.get_title()


def test_the_map_keeps_the_order_of_the_layers_given():
    made = history(2, 3)
    order = ["model.layers.2", "model.layers.0", "elsewhere"]
    labels = [label.get_text() for label in plots.layer_map(made, order).axes[0].get_yticklabels()]
    assert labels == ["2", "0"]
    with pytest.raises(ValueError, match=r"`layers` must name layers of the history, got \['elsewhere'\]"):
        plots.layer_map(made, ["elsewhere"])


def test_a_missing_value_is_masked_and_grey():
    made = History()
    made.append(0, 0, {("a", "near"): estimate(1.0), ("b", "near"): estimate(0.5)})
    made.append(1, 1, {("a", "near"): estimate(1.1)})
    figure = plots.layer_map(made)
    values = figure.axes[0].collections[0].get_array()
    assert values.mask.tolist() == [[False, False], [False, True]]
    pixels = plots.render(figure)
    height = pixels.shape[0]
    x, y = figure.axes[0].transData.transform((1, 1))
    assert set(pixels[height - round(y), round(x)]) == {round(0.82 * 255)}


def test_noise_does_not_fill_the_range_of_colours():
    made = History()
    for epoch, bound in enumerate([1.0, 1.01, 0.99]):
        made.append(epoch, epoch, {("a", "near"): estimate(bound, stderr=0.05)})
    low, high = plots.layer_map(made).axes[0].collections[0].get_clim()
    assert high - low == pytest.approx(0.4)
    assert low < 0.99
    assert high > 1.01


@pytest.mark.parametrize("bound", [0.0, 0.004])
def test_the_range_of_colours_does_not_go_below_zero(bound):
    low, high = plots.layer_map(of_bounds(bound, bound)).axes[0].collections[0].get_clim()
    assert low >= 0
    assert high >= bound
    assert high > low


def test_uneven_epochs_have_cells_of_their_width():
    made = History()
    for epoch in (0, 5, 6):
        made.append(epoch, epoch, {KEY: estimate(1.0)})
    mesh = plots.layer_map(made).axes[0].collections[0]
    assert mesh.get_coordinates()[0, :, 0].tolist() == [-2.5, 2.5, 5.5, 6.5]


def test_cluster_usage_is_all_active_and_effective_clusters():
    made = History()
    for epoch, entropy in enumerate([4.0, 3.0]):
        made.append(epoch, epoch, {KEY: estimate(1.0, entropy=entropy)})
    (axes,) = plots.cluster_usage(made).axes
    assert list(line(axes, "clusters K, 128").get_ydata()) == [128, 128]
    assert list(line(axes, "active clusters, 125").get_ydata()) == [125, 125]
    assert line(axes, "effective clusters").get_ydata() == pytest.approx([math.exp(4), math.exp(3)])
    assert axes.get_ylabel() == "number of clusters"


# ---- all figures


def many_steps():
    made = History()
    for epoch in range(4):
        references = {"input baseline": estimate(0.6), "null": estimate(0.0)}
        estimates = {(f"a.module.with.a.long.name.{i}", "near"): estimate(1.0 + epoch + i) for i in range(2)}
        made.append(0, 1_250_000 * epoch, estimates, references)
    return made


DEGENERATE = {
    "millions of steps": many_steps(),
    "one epoch": history(1, 12),
    "one layer, one epoch": of_bounds(1.2),
    "zero": of_bounds(0.0, 0.0, entropy=0.0, stderr=0.0),
    "one cluster": of_bounds(0.0, 0.0, entropy=0.0, clusters=4),
    "many epochs": history(300),
    "many layers": history(3, 96),
}


@pytest.mark.parametrize("name", DEGENERATE)
@pytest.mark.parametrize("draw", DRAW)
@pytest.mark.filterwarnings("error")
def test_degenerate_histories_have_sane_figures(draw, name):
    figure = DRAW[draw](DEGENERATE[name])
    pixels = plots.render(figure)
    axes = figure.axes[0]
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20
    assert all(math.isfinite(limit) for limit in (*axes.get_xlim(), *axes.get_ylim()))
    assert 1 <= len([tick for tick in axes.get_xticks() if axes.get_xlim()[0] <= tick <= axes.get_xlim()[1]]) <= 10
    assert all(float(tick).is_integer() for tick in axes.get_xticks())
    assert len(axes.get_yticks()) <= 30
    # Nothing reaches the border: no letter is cut.
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert (border == 255).all()


@pytest.mark.parametrize("draw", DRAW.values())
def test_the_same_history_has_the_same_pixels_and_another_has_others(draw):
    first = plots.render(draw(history(5, 3)))
    assert (first == plots.render(draw(history(5, 3)))).all()
    other = plots.render(draw(of_bounds(0.9, 0.1, 0.4, clusters=64)))
    assert first.shape != other.shape or (first != other).any()


@pytest.mark.parametrize("draw", DRAW.values())
def test_the_users_style_neither_applies_nor_changes(draw):
    import matplotlib

    plain = plots.render(draw(history(3, 2)))
    with matplotlib.rc_context({"axes.facecolor": "black", "font.size": 30, "lines.linewidth": 9}):
        before = dict(matplotlib.rcParams)
        assert (plots.render(draw(history(3, 2))) == plain).all()
        assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("draw", DRAW.values())
def test_an_empty_history_is_an_error(draw):
    with pytest.raises(ValueError, match="`history` must hold at least one validation"):
        draw(History())


@pytest.mark.parametrize("draw", DRAW.values())
def test_a_layer_name_is_not_read_as_a_formula(draw):
    made = History()
    made.append(0, 0, {(name, "near"): estimate(1.0) for name in (r"a$\x$b", "c")})
    assert len(np.unique(plots.render(draw(made)))) > 20


def dashes(axes):
    """Dash patterns of the lines with a label, from the SVG of their figure."""
    lines = [each for each in axes.lines if not str(each.get_label()).startswith(("_", "best"))]
    for number, each in enumerate(lines):
        each.set_gid(f"line{number}")
    svg = io.StringIO()
    axes.figure.savefig(svg, format="svg")
    groups = [svg.getvalue().split(f'id="line{number}"')[1].split("</g>")[0] for number in range(len(lines))]
    return [re.findall(r"stroke-dasharray: ([0-9., ]+)", group) for group in groups]


def test_lines_differ_by_their_dashes_in_greyscale_print():
    made = History()
    for epoch in range(3):
        made.append(
            epoch,
            epoch,
            {KEY: estimate(1.5 + epoch / 10, entropy=1.9, clusters=8)},
            {name: estimate(0.1 * epoch + 0.1 * i) for i, name in enumerate(("null", "input", "other"))},
        )
    (axes,) = plots.bound_curve(made).axes
    patterns = [str(each) for each in dashes(axes)]
    assert len(patterns) == 6
    assert len(set(patterns)) == 6


def test_no_display_is_needed_and_pyplot_holds_nothing(monkeypatch):
    """Although the user's backend is one that opens windows."""
    code = """
from tests.helpers.histories import history
from lightning_mi.reporting import plots
for draw in (plots.bound_curve, plots.layer_map, plots.cluster_usage):
    plots.render(draw(history(3, 2)))
import matplotlib.pyplot
assert matplotlib.pyplot.get_fignums() == []
"""
    monkeypatch.setenv("MPLBACKEND", "tkagg")
    monkeypatch.delenv("DISPLAY", raising=False)
    code = f"import sys; sys.path[:0] = {sys.path!r}\n{code}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
