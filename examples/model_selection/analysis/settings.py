"""Report on the settings: what each argument of the callback changes, one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from lightning_mi.examples.model_selection.analysis.markdown import table
from lightning_mi.examples.model_selection.analysis.statistics import spearman
from lightning_mi.examples.model_selection.analysis.table import Results, read_all
from lightning_mi.examples.model_selection.corpora.base import PHONE, SPEAKER
from lightning_mi.examples.model_selection.scores.embed import BOUNDARY, MEAN
from lightning_mi.examples.model_selection.scores.grid import CHANGES


def report(config: DictConfig, folder: Path) -> list[str]:
    """Lines of the report: means over the zoos of what is measured within each."""
    folders = [config.folder, *config.report.together_with]
    return [
        f"Means over {len(folders)} zoos, {', '.join(f'`{each}`' for each in folders)}.",
        "Each cell: Spearman's rank correlation over all checkpoints, its mean over the normal runs within each,",
        "and the points of accuracy that early stopping loses.",
        "",
        *settings_table(read_all(config), config.report.patience),
    ]


def settings_table(zoos: Sequence[Results], patience: int) -> list[str]:
    """A row for each change, a column for each pooling and task."""
    columns = [(pooling, task) for pooling in (BOUNDARY, MEAN) for task in (PHONE, SPEAKER)]
    values = {}
    for task in (PHONE, SPEAKER):
        of_zoos = [zoo.zoo(task) for zoo in zoos]
        values[task] = [
            np.mean([zoo.value(spearman) for zoo in of_zoos], axis=0),
            np.mean([zoo.within_runs(spearman) for zoo in of_zoos], axis=0),
            100 * np.mean([zoo.stopping_regret(patience) for zoo in of_zoos], axis=0),
        ]
    rows = []
    for words, setting in CHANGES.items():
        cells = [words]
        for pooling, task in columns:
            at = list(zoos[0].names).index(replace(setting, pooling=pooling).name)
            across, within, lost = (float(found[at]) for found in values[task])
            cells.append(f"{across:+.2f}, {within:+.2f}, {lost:.1f}")
        rows.append(cells)
    return table(["changed", *(f'pooling="{pooling}": {task}s' for pooling, task in columns)], rows)
