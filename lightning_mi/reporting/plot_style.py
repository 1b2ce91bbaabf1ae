"""Plot style shared by all figures: palette, axes, short names of layers, natural order of names.

Figures are made without pyplot. They need no display, open no window and are freed with their last reference.
Lines have the colours of Okabe and Ito, maps have viridis: colour-blind readers can distinguish both. Lines also
differ by their dashes, which survive greyscale print.
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
_MAX_NAME = 22  # characters
_MAX_COMMON = 24


def plain_style() -> AbstractContextManager[None]:
    """A context with matplotlib's defaults: the user's settings (a dark style, TeX) neither apply nor change.

    A ``$`` in a name is a ``$`` and does not begin a formula.
    """
    import matplotlib.style

    return matplotlib.style.context(["default", {"text.parse_math": False}])


def new_figure(width: float, height: float) -> Figure:
    """An empty figure that belongs to no window.

    Args:
        width: Width in inches.
        height: Height in inches.

    Example:
        >>> new_figure(4.0, 3.0).get_size_inches().tolist()
        [4.0, 3.0]
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def finish_axes(axes: Axes, x: list[float], x_label: str, grid: bool = True) -> None:
    """Set the ticks and the label of the horizontal axis, the grid and the spines.

    Args:
        axes: Axes of the figure.
        x: Positions of the values: epochs (-1 is before training) or training steps.
        x_label: ``"epoch"`` or ``"training step"``.
        grid: Whether to draw a grid.
    """
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
    """The marker of a line, or ``None`` if it has so many points that markers would touch."""
    return "o" if len(x) <= _MAX_MARKERS else None


def across(x: list[float], y: list[float]) -> tuple[list[float], list[float]]:
    """The points of a line. A single point becomes a level line across the axes.

    Example:
        >>> across([3.0], [0.7])
        ([2.5, 3.5], [0.7, 0.7])
    """
    return (x, y) if len(x) > 1 else ([x[0] - 0.5, x[0] + 0.5], [y[0], y[0]])


def cell_edges(x: list[float]) -> list[float]:
    """Borders of the cells around the positions, halfway between neighbours.

    Example:
        >>> cell_edges([0.0, 1.0, 3.0])
        [-0.5, 0.5, 2.0, 4.0]
    """
    if len(x) == 1:
        return [x[0] - 0.5, x[0] + 0.5]
    middles = [(a + b) / 2 for a, b in pairwise(x)]
    return [x[0] - (middles[0] - x[0]), *middles, x[-1] + (x[-1] - middles[-1])]


def short_names(layers: Sequence[str]) -> tuple[list[str], str]:
    """The parts in which dotted names differ, and the pattern that they share, with ``"*"`` for these parts.

    Args:
        layers: Dotted names of submodules.

    Returns:
        The short names, distinct if ``layers`` are, and the pattern, which is empty if they share nothing.

    Example:
        >>> short_names(["model.encoder.layers.0", "model.encoder.layers.11"])
        (['0', '11'], 'model.encoder.layers.*')
        >>> short_names(["encoder.output"])
        (['encoder.output'], '')
    """
    if len(layers) < 2:
        return ellipsize_all(layers, _MAX_NAME, "."), ""
    parts = [layer.split(".") for layer in layers]
    before = _common_prefix([each[:-1] for each in parts])
    after = _common_prefix([each[before + 1 :][::-1] for each in parts])
    names = [".".join(each[before : len(each) - after]) for each in parts]
    first = parts[0]
    common = ".".join([*first[:before], "*", *first[len(first) - after :]]) if before or after else ""
    return ellipsize_all(names, _MAX_NAME, "."), ellipsize(common, _MAX_COMMON, ".")


def ellipsize(text: str, most: int, separator: str = "") -> str:
    """The end of ``text`` in at most ``most`` characters, after an ellipsis if it was cut.

    Args:
        text: A name or a path.
        most: Maximum number of characters, at least 2.
        separator: If given, the end begins with a whole part if one fits.

    Example:
        >>> ellipsize("runs/2026/epoch_10.ckpt", 14), ellipsize("short", 14)
        ('…epoch_10.ckpt', 'short')
        >>> ellipsize("model.encoder.layers.11", 12, separator=".")
        '…layers.11'
    """
    if len(text) <= most:
        return text
    end = text[1 - most :]
    if separator and text[-most] != separator and separator in end:
        end = end.split(separator, 1)[1]
    return "…" + end


def ellipsize_all(names: Sequence[str], most: int, separator: str = "") -> list[str]:
    """Short names that are distinct if ``names`` are.

    Each is the end of its name (:func:`ellipsize`). If two ends are equal, all are cut in the middle; if that does
    not tell them apart either, they stay as they are.

    Example:
        >>> ellipsize_all(["run_1/checkpoints/last.ckpt", "run_2/checkpoints/last.ckpt"], 14)
        ['run_1/…st.ckpt', 'run_2/…st.ckpt']
    """
    ends = [ellipsize(name, most, separator) for name in names]
    half = most // 2
    middles = [name if len(name) <= most else f"{name[: half - 1]}…{name[half - most :]}" for name in names]
    return next((each for each in (ends, middles) if len(set(each)) == len(set(names))), list(names))


def natural_order(name: str) -> list[tuple[int, str]]:
    """A sorting key that orders the numbers in names by their values.

    Example:
        >>> sorted(["step=10", "step=9"], key=natural_order)
        ['step=9', 'step=10']
    """
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", name) if part]


def _common_prefix(rows: list[list[str]]) -> int:
    """Number of leading items that all rows share."""
    count = 0
    for column in zip(*rows, strict=False):
        if len(set(column)) > 1:
            break
        count += 1
    return count
