"""Plot style shared by all figures: palette, axes, short names of layers, natural order of names.

No pyplot, hence no window, no global list of figures and no display: a figure is freed with its last reference.
Colours are those of Okabe and Ito and the map viridis, which colour-blind readers and greyscale print distinguish;
lines differ by their dashes too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, VERMILLION, PURPLE, GREEN, ORANGE, GREY = (
    "#0072B2",
    "#D55E00",
    "#CC79A7",
    "#009E73",
    "#E69F00",
    "#555555",
)
REFERENCE_STYLES = ((PURPLE, (0, (5, 1.5, 1, 1.5))), (GREY, (0, (1, 1.2))), (ORANGE, (0, (3, 2))))
_DPI = 150  # letters are legible at the size of a thumbnail
_MAX_MARKERS = 60


def plain_style() -> AbstractContextManager[None]:
    """Matplotlib's defaults, so that the user's own settings (a dark style, TeX) have no effect and stay as they
    are."""
    import matplotlib.style

    return matplotlib.style.context("default")


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of ``width`` by ``height`` inches that belongs to no window, and its axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def finish_axes(axes: Axes, x: list[float], x_label: str, grid: bool = True) -> None:
    """Ticks, labels and grid for values at ``x``, which are epochs or training steps."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axes.set_xlabel(x_label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    if x_label != "epoch":
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 250k, 1.25M: millions of steps do not overlap
    if len(x) == 1:
        axes.set_xlim(x[0] - 0.5, x[0] + 0.5)
        axes.set_xticks(x)
    if x_label == "epoch" and x[0] < 0:
        epochs = MaxNLocator(integer=True, nbins=7).tick_values(0, max(1, x[-1]))
        room = 0.06 * (x[-1] - x[0])  # for the first word
        epochs = [epoch for epoch in epochs if x[0] + room < epoch <= x[-1]]
        axes.set_xticks([x[0], *epochs], ["start", *(f"{epoch:.0f}" for epoch in epochs)])
    if grid:
        axes.grid(alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def marker_for(x: list[float]) -> str | None:
    """A marker, unless there are so many points that markers would touch."""
    return "o" if len(x) <= _MAX_MARKERS else None


def across(x: list[float], y: list[float]) -> tuple[list[float], list[float]]:
    """A single point as a line across the figure."""
    return (x, y) if len(x) > 1 else ([x[0] - 0.5, x[0] + 0.5], [y[0], y[0]])


def cell_edges(x: list[float]) -> list[float]:
    """The borders of cells around the positions.

    Example:
        >>> cell_edges([0.0, 1.0, 3.0])
        [-0.5, 0.5, 2.0, 4.0]
    """
    if len(x) == 1:
        return [x[0] - 0.5, x[0] + 0.5]
    middles = [(a + b) / 2 for a, b in pairwise(x)]
    return [x[0] - (middles[0] - x[0]), *middles, x[-1] + (x[-1] - middles[-1])]


def short_names(layers: Sequence[str]) -> tuple[list[str], str]:
    """What dotted names differ in, and what they have in common, with ``"…"`` for what is left out.

    Args:
        layers: Dotted names of submodules.

    Example:
        >>> short_names(["model.encoder.layers.0", "model.encoder.layers.11"])
        (['0', '11'], 'model.encoder.layers.…')
        >>> short_names(["encoder.output"])
        (['encoder.output'], '')
    """
    if len(layers) < 2:
        return [elide_dotted(layer, 22) for layer in layers], ""
    parts = [layer.split(".") for layer in layers]
    before = _common_prefix([each[:-1] for each in parts])
    after = _common_prefix([each[before + 1 :][::-1] for each in parts])
    names = [".".join(each[before : len(each) - after]) for each in parts]
    first = parts[0]
    common = ".".join([*first[:before], "…", *first[len(first) - after :]]) if before or after else ""
    return [elide_dotted(name, 22) for name in names], elide_dotted(common, 24)


def ellipsize(text: str, most: int) -> str:
    """The end of ``text`` in at most ``most`` characters.

    Example:
        >>> ellipsize("runs/2026/epoch_10.ckpt", 14), ellipsize("short", 14)
        ('…epoch_10.ckpt', 'short')
    """
    return text if len(text) <= most else "…" + text[1 - most :]


def elide_dotted(name: str, most: int) -> str:
    """The last parts of a dotted name that fit into ``most`` characters.

    Example:
        >>> elide_dotted("model.encoder.layers.11", 12)
        '…layers.11'
    """
    if len(name) <= most:
        return name
    parts = name.split(".")
    while len(parts) > 1 and len(".".join(parts)) > most - 1:
        parts = parts[1:]
    return "…" + ".".join(parts)[1 - most :]


def natural_order(name: str) -> list[tuple[int, str]]:
    """A sorting key by which numbers in names are in the order of their values.

    Example:
        >>> sorted(["step=10", "step=9"], key=natural_order)
        ['step=9', 'step=10']
    """
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", name) if part]


def _common_prefix(rows: list[list[str]]) -> int:
    """Number of items that all rows begin with."""
    count = 0
    for column in zip(*rows, strict=False):
        if len(set(column)) > 1:
            break
        count += 1
    return count
