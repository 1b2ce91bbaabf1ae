"""Scatter plot: scores on the x axis, accuracies on the y axis, a line for each run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lightning_mi.examples.model_selection.analysis.statistics import spearman

if TYPE_CHECKING:
    from lightning_mi.examples.model_selection.analysis.table import Results

_COLOURS = {"apc": "tab:blue", "hubert": "tab:orange", "cpc": "tab:green"}


def draw(results: Results, panels: Sequence[tuple[str, str]], path: Path) -> None:
    """Draw a panel for each (score, task) as PNG; larger dots are later checkpoints, crosses degenerate ones."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.lines import Line2D

    columns = min(4, max(1, len(panels)))
    rows = max(1, -(-len(panels) // columns))
    figure, axes = plt.subplots(
        rows, columns, figsize=(3.6 * columns, 3.2 * rows), squeeze=False, layout="constrained"
    )
    for axis, (score, task) in zip(axes.flat, panels, strict=False):
        zoo = results.zoo(task)
        values = results.scores[:, results.names.index(score)]
        for run in np.unique(zoo.runs):
            rows_of_run = np.flatnonzero(zoo.runs == run)
            rows_of_run = rows_of_run[np.argsort(zoo.steps[rows_of_run])]
            colour = _COLOURS.get(str(zoo.objectives[rows_of_run[0]]), "tab:gray")
            x, y = values[rows_of_run], 100 * zoo.accuracy[rows_of_run]
            axis.plot(x, y, color=colour, linewidth=0.6, alpha=0.4)
            if zoo.normal[rows_of_run[0]]:
                axis.scatter(x, y, s=8 + 7 * np.arange(len(x)), color=colour, alpha=0.8, linewidths=0)
            else:
                axis.scatter(x, y, s=22, color=colour, marker="x", linewidths=1)
        axis.set_xlabel(score, fontsize=7)
        axis.set_ylabel(f"{task} accuracy, %", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.set_title(f"Spearman {float(spearman(values[:, None], zoo.accuracy)[0]):+.2f}", fontsize=9)
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    handles = [
        Line2D([], [], color=colour, marker="o", linestyle="", label=name) for name, colour in _COLOURS.items()
    ]
    handles.append(Line2D([], [], color="gray", marker="x", linestyle="", label="degenerate on purpose"))
    axes.flat[0].legend(handles=handles, fontsize=6, loc="best")
    figure.savefig(path, dpi=90)
    plt.close(figure)
