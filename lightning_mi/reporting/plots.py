"""Three figures of a run's history: the bound's curve, the map of the layers, the use of the clusters.

They are pure functions of the history. matplotlib is imported when one is called.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from lightning_mi.reporting.history import BoundSummary, History
from lightning_mi.reporting.plot_style import (
    BLUE,
    GREEN,
    ORANGE,
    REFERENCE_STYLES,
    VERMILLION,
    across,
    cell_edges,
    ellipsize,
    finish_axes,
    marker_for,
    natural_order,
    new_figure,
    plain_style,
    short_names,
)

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_WIDTH = 4.8  # inches
_MAX_ROW_NAMES = 26


def bound_curve(history: History) -> Figure:
    """Curve of the primary bound over the run, with error band, ceilings (log K and H(c)) and references.

    A ceiling more than 2.5 times as high as everything else is written at the upper edge instead of drawn, since
    it would flatten the curve.

    Args:
        history: At least one validation, values in nats.

    Returns:
        The figure, which belongs to no window.

    Raises:
        ValueError: If the history is empty.
        ModuleNotFoundError: If there is no matplotlib.

    Example:
        >>> from lightning_mi import MIEstimate
        >>> history = History()
        >>> history.append(0, 100, {("encoder", "near"): MIEstimate(1.5, 0.1, 4.0, 2.5, 4.85, 128, 120, 900, 900)})
        >>> bound_curve(history).axes[0].get_ylabel()
        'lower bound (nats)'
    """
    _check(history)
    with plain_style():
        figure = new_figure(_WIDTH, 3.9)
        axes = figure.add_subplot()
        x, x_label = _positions(history)
        primaries = [validation.primary for validation in history]
        bounds = [each.bound for each in primaries]
        lower, upper = zip(*(each.interval for each in primaries), strict=True)
        marker = marker_for(x)
        axes.plot(x, bounds, color=BLUE, linewidth=2, marker=marker, markersize=4, label="bound", zorder=4)
        if len(x) > 1:
            axes.fill_between(x, lower, upper, color=BLUE, alpha=0.22, linewidth=0, label="± 2 standard errors")
        else:  # a band needs two points
            error = [upper[0] - bounds[0]]
            axes.errorbar(
                x, bounds, error, color=BLUE, linewidth=2, capsize=5, linestyle="", label="± 2 standard errors"
            )
        top = max(upper)
        for number, (name, summaries) in enumerate(history.references().items()):
            colour, pattern = REFERENCE_STYLES[number % len(REFERENCE_STYLES)]
            values = [summary.bound for _, summary in summaries]
            style: dict[str, Any] = {"color": colour, "linestyle": pattern, "linewidth": 2, "zorder": 3}
            if len(set(values)) == 1:
                axes.axhline(values[0], label=f"{name}, {values[0]:.2f}", **style)
            else:
                at = [x[position] for position, _ in summaries]
                axes.plot(at, values, label=name, **style)
            top = max([top, *values])
        most = max(2.5 * top, 0.1)
        too_high = []
        for name, colour, dashes, values in (
            ("ceiling log K", VERMILLION, "--", [each.ceiling for each in primaries]),
            ("entropy H(c)", GREEN, "-.", [each.entropy for each in primaries]),
        ):
            if max(values) > most:
                too_high.append(f"{name} = {values[-1]:.2f}")
                continue
            axes.plot(*across(x, values), color=colour, linestyle=dashes, linewidth=2, label=name)
            top = max([top, *values])
        if too_high:
            axes.text(
                0.99,
                0.98,
                f"off the scale: {', '.join(too_high)}",
                transform=axes.transAxes,
                horizontalalignment="right",
                verticalalignment="top",
                fontsize="small",
                color=VERMILLION,
            )
            top *= 1.12
        best = history.best
        when = _when(best.epoch, best.step, x_label)
        axes.plot(
            [x[list(history).index(best)]],
            [best.primary.bound],
            marker="*",
            markersize=16,
            color=ORANGE,
            markeredgecolor="black",
            markeredgewidth=0.8,
            linestyle="",
            label=f"best, {best.primary.bound:.2f} ± {best.primary.stderr:.2f}, {when}",
            zorder=5,
        )
        top = max(top, 0.1) * 1.05
        axes.set_ylim(-0.04 * top, top)  # a bound of 0 is seen above the edge
        axes.set_title("Mutual information of two segments" + _of_layer(history), fontsize="medium")
        axes.set_ylabel("lower bound (nats)")
        finish_axes(axes, x, x_label)
        figure.legend(loc="outside lower center", ncols=2, fontsize="small", frameon=False)
    return figure


def layer_map(history: History, layers: Sequence[str] | None = None) -> Figure:
    """Heat map of the bound of every layer at every validation; the first layer is at the bottom.

    A missing value is grey. The colours span at least eight standard errors, so that noise does not look like
    structure.

    Args:
        history: At least one validation, values in nats.
        layers: Names of the layers in the model's order; layers that are not in the history are left out.
            ``None``: all layers, sorted by name, numbers in names by their values.

    Returns:
        The figure, which belongs to no window.

    Raises:
        ValueError: If the history is empty or holds none of ``layers``.
        ModuleNotFoundError: If there is no matplotlib.

    Example:
        >>> from lightning_mi import MIEstimate
        >>> def estimate(bound):
        ...     return MIEstimate(bound, 0.1, 4.0, 4.0 - bound, 4.85, 128, 120, 900, 900)
        >>> history = History()
        >>> history.append(0, 100, {(f"net.blocks.{i}", "near"): estimate(0.1 * i) for i in (10, 2, 1)})
        >>> [label.get_text() for label in layer_map(history).axes[0].get_yticklabels()]
        ['1', '2', '10']
    """
    _check(history)
    known = list(dict.fromkeys(layer for validation in history for layer in validation.layers))
    if layers is None:
        rows = sorted(known, key=natural_order)
    else:
        rows = [layer for layer in layers if layer in known]
        if not rows:
            raise ValueError(f"`layers` must name layers of the history, got {list(layers)}; it holds {known}.")
    with plain_style():
        import numpy as np

        x, x_label = _positions(history)
        values = np.full((len(rows), len(history)), np.nan)
        errors: list[float] = []
        for column, validation in enumerate(history):
            for layer, summary in validation.layers.items():
                if layer in rows:
                    values[rows.index(layer), column] = summary.bound
                    errors.append(summary.stderr)
        low, high = _colour_range(values, statistics.median(errors))
        figure = new_figure(_WIDTH, min(6.5, max(2.8, 1.7 + 0.22 * len(rows))))
        axes = figure.add_subplot()
        axes.set_facecolor("0.82")
        mesh = axes.pcolormesh(
            cell_edges(x),
            np.arange(len(rows) + 1) - 0.5,
            np.ma.masked_invalid(values),
            cmap="viridis",
            vmin=low,
            vmax=high,
        )
        bar = figure.colorbar(mesh, ax=axes, pad=0.02)
        bar.set_label("lower bound (nats)")
        row, column = divmod(int(np.nanargmax(values)), values.shape[1])
        axes.plot(
            [x[column]],
            [row],
            marker="*",
            markersize=14,
            color="white",
            markeredgecolor="black",
            markeredgewidth=0.8,
            clip_on=False,
            linestyle="",
        )
        names, common = short_names(rows)
        every = -(-len(rows) // _MAX_ROW_NAMES)
        axes.set_yticks(range(0, len(rows), every), names[::every])
        axes.set_ylabel(f"layer ({common})" if common else "layer")
        best = list(history)[column]
        when = _when(best.epoch, best.step, x_label)
        axes.set_title(
            f"Mutual information of two segments, by layer\n★ best: {values[row, column]:.2f} nats, "
            f"layer {names[row]}, {when}",
            fontsize="medium",
        )
        finish_axes(axes, x, x_label, grid=False)
        axes.set_xlim(cell_edges(x)[0], cell_edges(x)[-1])
    return figure


def cluster_usage(history: History) -> Figure:
    """Curves of the number of clusters, of active clusters, and of effective clusters exp H(c), the perplexity.

    Effective clusters near 1 mean that the model or the quantiser has collapsed. The bound cannot exceed their
    logarithm.

    Args:
        history: At least one validation.

    Returns:
        The figure, which belongs to no window.

    Raises:
        ValueError: If the history is empty.
        ModuleNotFoundError: If there is no matplotlib.

    Example:
        >>> from lightning_mi import MIEstimate
        >>> history = History()
        >>> history.append(0, 100, {("encoder", "near"): MIEstimate(1.5, 0.1, 4.0, 2.5, 4.85, 128, 120, 900, 900)})
        >>> [int(line.get_ydata()[0]) for line in cluster_usage(history).axes[0].lines]
        [128, 120, 54]
    """
    _check(history)
    with plain_style():
        figure = new_figure(_WIDTH, 3.6)
        axes = figure.add_subplot()
        x, x_label = _positions(history)
        primaries = [validation.primary for validation in history]

        def line(name: str, value: Callable[[BoundSummary], float], **style: Any) -> None:
            xs, ys = across(x, [float(value(each)) for each in primaries])
            axes.plot(xs, ys, label=f"{name}, {ys[-1]:.0f}", linewidth=2, **style)

        marker = marker_for(x)
        line("clusters K", lambda each: each.num_clusters, color=VERMILLION, linestyle="--")
        line("active clusters", lambda each: each.active_clusters, color=GREEN, linestyle="-.")
        line(
            "effective clusters exp H(c)",
            lambda each: each.effective_clusters,
            color=BLUE,
            marker=marker if len(x) > 1 else None,
            markersize=4,
        )
        top = 1.08 * max(each.num_clusters for each in primaries)
        axes.set_ylim(-0.02 * top, top)
        axes.set_title("Use of the clusters" + _of_layer(history), fontsize="medium")
        axes.set_ylabel("number of clusters")
        finish_axes(axes, x, x_label)
        figure.legend(loc="outside lower center", ncols=2, fontsize="small", frameon=False)
    return figure


def render(figure: Figure) -> NDArray[np.uint8]:
    """Pixels of a figure.

    Args:
        figure: A figure of this module.

    Returns:
        RGB values, ``(height, width, 3)``, ``uint8``.

    Example:
        >>> from lightning_mi import MIEstimate
        >>> history = History()
        >>> history.append(0, 100, {("encoder", "near"): MIEstimate(1.5, 0.1, 4.0, 2.5, 4.85, 128, 120, 900, 900)})
        >>> render(bound_curve(history)).shape
        (585, 720, 3)
    """
    import numpy as np

    canvas: Any = figure.canvas
    with plain_style():
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _check(history: History) -> None:
    if not len(history):
        raise ValueError("`history` must hold at least one validation, got none. Draw after the first validation.")


def _positions(history: History) -> tuple[list[float], str]:
    """Horizontal positions and their label: epochs, or training steps if an epoch has several validations."""
    epochs = [validation.epoch for validation in history]
    if all(a < b for a, b in pairwise(epochs)):
        return [float(epoch) for epoch in epochs], "epoch"
    return [float(validation.step) for validation in history], "training step"


def _when(epoch: int, step: int, x_label: str) -> str:
    if epoch < 0:
        return "before training"
    return f"epoch {epoch}" if x_label == "epoch" else f"step {step:,}"


def _colour_range(values: NDArray[np.float64], stderr: float) -> tuple[float, float]:
    import numpy as np

    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    missing = max(8 * stderr, 0.01) - (high - low)
    if missing > 0:
        low = max(0.0, low - missing / 2)
        high = max(high, low + max(8 * stderr, 0.01))
    return low, high


def _of_layer(history: History) -> str:
    """The line of a title that names the monitored layer, if there are several layers."""
    if all(len(validation.layers) == 1 for validation in history):
        return ""
    layers = {validation.key[0] for validation in history}
    if len(layers) > 1:
        return "\nmonitored layer of each validation"
    return f"\nlayer {ellipsize(layers.pop(), 40, '.')}"
