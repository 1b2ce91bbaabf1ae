"""Report on the settings: what each argument of the callback changes, one at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from lightning_mi.examples.model_selection.analysis.markdown import table
from lightning_mi.examples.model_selection.analysis.statistics import spearman
from lightning_mi.examples.model_selection.analysis.table import Results, read_all
from lightning_mi.examples.model_selection.corpora.base import PHONE, SPEAKER
from lightning_mi.examples.model_selection.scores.conditions import VIEW_LATER
from lightning_mi.examples.model_selection.scores.embed import BOUNDARY, MEAN
from lightning_mi.examples.model_selection.scores.grid import CHANGES, VIEW_CHANGES


def report(config: DictConfig, folder: Path) -> list[str]:
    """Lines of the report: means over the zoos of what is measured within each."""
    folders = [config.folder, *config.report.together_with]
    return [
        f"Means over {len(folders)} zoos, {', '.join(f'`{each}`' for each in folders)}.",
        "Each cell: Spearman's rank correlation over all checkpoints, its mean over the normal runs within each,",
        "and the points of accuracy that early stopping loses.",
        "",
        *settings_table(read_all(config), config.report.patience),
        "",
        "Views of one moment; `content` is the bound minus that of distant views.",
        "",
        *views_table(read_all(config), config.report.patience),
    ]


def settings_table(zoos: Sequence[Results], patience: int) -> list[str]:
    """A row for each change, a column for each pooling and task."""
    return _table(
        {
            words: {f'pooling="{pooling}"': replace(setting, pooling=pooling).name for pooling in (BOUNDARY, MEAN)}
            for words, setting in CHANGES.items()
        },
        zoos,
        patience,
    )


def views_table(zoos: Sequence[Results], patience: int) -> list[str]:
    """A row for each change of the settings of views, a column for each score and task."""
    return _table(
        {
            words: {
                "bound": setting.name,
                "content": setting.minus_far,
                "80 ms later minus far": replace(setting, partner=VIEW_LATER).minus_far,
                "their sum": setting.with_later,
            }
            for words, setting in VIEW_CHANGES.items()
        },
        zoos,
        patience,
    )


def _table(rows: Mapping[str, Mapping[str, str]], zoos: Sequence[Results], patience: int) -> list[str]:
    """By the name of a row and of a column the name of a score."""
    values = {}
    for task in (PHONE, SPEAKER):
        of_zoos = [zoo.zoo(task) for zoo in zoos]
        values[task] = [
            np.mean([zoo.value(spearman) for zoo in of_zoos], axis=0),
            np.mean([zoo.within_runs(spearman) for zoo in of_zoos], axis=0),
            100 * np.mean([zoo.stopping_regret(patience) for zoo in of_zoos], axis=0),
        ]
    lines = []
    for words, names in rows.items():
        cells = [words]
        for name in names.values():
            at = list(zoos[0].names).index(name)
            for of_task in values.values():
                across, within, lost = (float(found[at]) for found in of_task)
                cells.append(f"{across:+.2f}, {within:+.2f}, {lost:.1f}")
        lines.append(cells)
    columns = [f"{column}: {task}s" for column in next(iter(rows.values())) for task in values]
    return table(["changed", *columns], lines)
