"""Report on a zoo: how every score ranks its checkpoints, as Markdown, CSV and a figure."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from omegaconf import DictConfig
from tqdm.auto import tqdm  # type: ignore[import-untyped,unused-ignore]

from lightning_mi.examples.model_selection.analysis.figure import draw
from lightning_mi.examples.model_selection.analysis.markdown import table, with_interval
from lightning_mi.examples.model_selection.analysis.selection import (
    BASELINES,
    BOUNDS,
    FAMILIES,
    CrossZooSelection,
    SplitSelection,
    columns_of,
)
from lightning_mi.examples.model_selection.analysis.statistics import (
    Floats,
    Zoo,
    choose,
    interval,
    kendall,
    partial_spearman,
    regret,
    spearman,
)
from lightning_mi.examples.model_selection.analysis.table import (
    CHECKPOINTS,
    LOSS,
    Results,
    read_all,
    together,
    write,
)
from lightning_mi.examples.model_selection.corpora.base import PHONE, SPEAKER
from lightning_mi.examples.model_selection.scores.grid import LOGGED


@dataclass(frozen=True)
class Ranking:
    """How every score ranks the whole zoo for one task; ``(S,)`` each, ``draws`` ``(times, S)``."""

    spearman: Floats
    low: Floats
    high: Floats
    kendall: Floats
    objectives: Floats
    runs: Floats
    regret: Floats
    stopping: Floats
    partial: Floats
    draws: Floats

    @staticmethod
    def of(zoo: Zoo, other: Floats, times: int, patience: int, seed: int) -> Ranking:
        """Rank ``zoo``, with intervals over runs from ``times`` draws; ``partial`` controls for ``other``."""
        draws = zoo.bootstrap(lambda drawn: drawn.value(spearman), times, seed)
        low, high = interval(draws)
        return Ranking(
            spearman=zoo.value(spearman),
            low=low,
            high=high,
            kendall=zoo.value(kendall),
            objectives=zoo.within_objectives(spearman),
            runs=zoo.within_runs(spearman),
            regret=zoo.value(regret),
            stopping=zoo.stopping_regret(patience),
            partial=partial_spearman(zoo.scores, zoo.accuracy, other),
            draws=draws,
        )


def report(config: DictConfig, folder: Path) -> list[str]:
    """Lines of the report; the CSV files and the figure are written to ``folder``."""
    results = together(read_all(config))
    selection = CrossZooSelection.of(results, config.report)
    rankings, lines = {}, []
    for task in tqdm(results.accuracy, desc="tasks", unit="task", disable=None):
        rankings[task] = Ranking.of(
            results.zoo(task),
            results.accuracy[other_task(results, task)],
            config.report.bootstraps,
            config.report.patience,
            config.seed,
        )
        lines += task_lines(results, rankings[task], task, selection, config)
    write(results, folder / CHECKPOINTS)
    write_ranking(results, rankings, folder / "ranking.csv")
    panels = [(name, task) for task, name in config.report.panels if name in results.names]
    draw(results, panels, folder / "model_selection.png")
    return [*head_lines(results, config), "", *short_lines(results, rankings), *lines]


def head_lines(results: Results, config: DictConfig) -> list[str]:
    """What was ranked."""
    folders = " with ".join(f"`{name}`" for name in [config.folder, *config.report.together_with])
    degenerate = {each.run: bool(each.degenerate) for each in results.checkpoints}
    return [
        f"Seed {config.seed}, {folders}: {len(results.checkpoints)} checkpoints of {len(degenerate)} runs "
        f"({sum(degenerate.values())} of them degenerate on purpose); {len(results.names)} scores; left out "
        f"because of NaN or infinity in their embeddings: {', '.join(results.left_out) or 'none'}."
    ]


def logged(results: Results) -> list[str]:
    """What the callback logs by its configs, as far as it is scored."""
    return [name for name in LOGGED if name in results.names]


def other_task(results: Results, task: str) -> str:
    """The task that is controlled for: speakers, or phones beside speakers, as far as they are known."""
    others = [name for name in (SPEAKER, PHONE, *results.accuracy) if name in results.accuracy and name != task]
    return others[0] if others else task


def short_lines(results: Results, rankings: dict[str, Ranking]) -> list[str]:
    """The table of the README; each baseline has the setting that is best for the first task, in hindsight."""
    header, names = ["score"], logged(results)
    shown = [task for task in (PHONE, SPEAKER) if task in rankings] or list(rankings)
    for task in shown:
        header += [f"{task}s: Spearman [95 %]", "regret, points", "early stopping, points"]
    for family in BASELINES:
        if columns := columns_of(results, family):
            names.append(results.names[choose(rankings[shown[0]].spearman, columns)])
    rows = []
    for name in [*names, LOSS]:
        at, cells = results.names.index(name), [f"`{name}`"]
        for task in shown:
            ranking = rankings[task]
            across = [
                with_interval(float(ranking.spearman[at]), ranking.draws[:, at]),
                f"{100 * ranking.regret[at]:.1f}",
            ]
            cells += [*(across if name != LOSS else ["-"] * len(across)), f"{100 * ranking.stopping[at]:.1f}"]
        rows.append(cells)
    ceiling = ["labelled bound on the same segments"]
    for task in shown:
        ceiling += [f"{spearman(results.labelled[task][:, None], results.accuracy[task])[0]:+.2f}", "-", "-"]
    return table(header, [*rows, ceiling])


def task_lines(
    results: Results, ranking: Ranking, task: str, selection: CrossZooSelection | None, config: DictConfig
) -> list[str]:
    """The section on one task."""
    accuracy = results.accuracy[task]
    ceiling = float(spearman(results.labelled[task][:, None], accuracy)[0])
    best = results.checkpoints[int(accuracy.argmax())].name
    lines = [
        "",
        f"## {task.capitalize()} accuracy",
        "",
        f"From {100 * accuracy.min():.1f} to {100 * accuracy.max():.1f} % (`{best}`). Spearman of the labelled "
        f"bound on the scored segments, which a score without labels cannot be expected to pass: {ceiling:+.2f}.",
        "",
        f"Settings chosen on half of the runs, tested on the other half; mean (5 to 95 %) of "
        f"{config.report.splits} random splits:",
        "",
        *split_lines(SplitSelection.of(results, task, config.report.splits, config.seed)),
        "",
        "The whole zoo; each family has the setting that is best there, in hindsight:",
        "",
        *whole_lines(results, ranking, best_of_families(results, ranking), other_task(results, task)),
        "",
        "What the callback logs, minus each baseline's best setting (95 % intervals over runs):",
        "",
        *difference_lines(results, ranking),
    ]
    if selection and all(task in each.accuracy for each in selection.seen):
        lines += ["", *cross_zoo_lines(selection, task, config)]
    return lines


def split_lines(selection: SplitSelection) -> list[str]:
    """A table of the families."""
    rows = []
    for family, values in selection.spearman.items():
        low, high = np.percentile(values, [5, 95])
        (name, often), *_ = selection.picks[family].most_common(1)
        rows.append(
            [
                family,
                f"{values.mean():+.2f} ({low:+.2f} to {high:+.2f})",
                f"{100 * selection.regrets[family].mean():.1f}",
                f"`{name}` ({often} of {len(values)})",
            ]
        )
    return table(["family", "Spearman on the other half", "regret, points", "chosen most"], rows)


def best_of_families(results: Results, ranking: Ranking) -> list[str]:
    """What the callback logs, the score of each family that ranks the zoo best in hindsight, and the loss."""
    names = logged(results)
    for family in FAMILIES:
        if columns := columns_of(results, family):
            names.append(results.names[choose(ranking.spearman, columns)])
    return [*dict.fromkeys(names), LOSS]


def whole_lines(results: Results, ranking: Ranking, names: Sequence[str], other: str) -> list[str]:
    """A table of some scores over the whole zoo."""
    rows = []
    for name in names:
        at = results.names.index(name)
        across = [
            with_interval(float(ranking.spearman[at]), ranking.draws[:, at]),
            f"{ranking.partial[at]:+.2f}",
            f"{ranking.kendall[at]:+.2f}",
            f"{ranking.objectives[at]:+.2f}",
        ]
        lost = f"{100 * ranking.regret[at]:.1f}"
        if name == LOSS:  # it has another unit in each objective
            across, lost = ["-"] * len(across), "-"
        rows.append([f"`{name}`", *across, f"{ranking.runs[at]:+.2f}", lost, f"{100 * ranking.stopping[at]:.1f}"])
    header = [
        "score",
        "Spearman [95 %]",
        f"partial, {other} accuracy fixed",
        "Kendall",
        "mean within objectives",
        "mean within runs",
        "regret, points",
        "early stopping, points",
    ]
    return table(header, rows)


def difference_lines(results: Results, ranking: Ranking) -> list[str]:
    """A table of how far what is logged is above each baseline, which has its best setting in hindsight."""
    columns = {name: columns_of(results, name) for name in BASELINES}
    baselines = {name: choose(ranking.spearman, found) for name, found in columns.items() if found}
    rows = []
    for name in logged(results):
        at = results.names.index(name)
        rows.append([f"`{name}`", *_above(ranking.spearman, ranking.draws, at, baselines.values())])
    return table(["score", *(f"above {name}" for name in baselines)], rows)


def cross_zoo_lines(selection: CrossZooSelection, task: str, config: DictConfig) -> list[str]:
    """A table of how the settings that other zoos chose rank this one."""
    zoo, names = selection.fresh.zoo(task), selection.fresh.names
    values, taus, lost = zoo.value(spearman), zoo.value(kendall), zoo.value(regret)
    stopping = zoo.stopping_regret(config.report.patience)
    draws = zoo.bootstrap(lambda drawn: drawn.value(spearman), config.report.bootstraps)
    baselines = selection.chosen(task, BASELINES)
    columns = {name: names.index(name) for name in logged(selection.fresh)}
    columns |= {f"chosen, {family}": at for family, at in selection.chosen(task, (*BOUNDS, *BASELINES)).items()}
    rows = []
    for what, at in columns.items():
        rows.append(
            [
                f"`{what}`" if what == names[at] else f"{what}: `{names[at]}`",
                with_interval(float(values[at]), draws[:, at]),
                f"{taus[at]:+.2f}",
                f"{100 * lost[at]:.1f}",
                f"{100 * stopping[at]:.1f}",
                *_above(values, draws, at, baselines.values()),
            ]
        )
    header = ["score", "Spearman on fresh runs", "Kendall", "regret, points", "early stopping, points"]
    return [
        f"{len(zoo.accuracy)} checkpoints of {len(np.unique(zoo.runs))} runs that chose no setting. The settings "
        f'of the baselines, and what is called "chosen", were chosen by {selection.source}:',
        "",
        *table([*header, *(f"above {name}" for name in baselines)], rows),
    ]


def _above(values: Floats, draws: Floats, at: int, others: Iterable[int]) -> list[str]:
    return [
        "-" if at == other else with_interval(values[at] - values[other], draws[:, at] - draws[:, other])
        for other in others
    ]


def write_ranking(results: Results, rankings: dict[str, Ranking], path: Path) -> None:
    """Write every number of every ranking as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        fields = ("spearman", "low", "high", "partial", "kendall", "objectives", "runs", "regret", "stopping")
        writer.writerow(["task", "score", *fields])
        for task, ranking in rankings.items():
            for at, name in enumerate(results.names):
                writer.writerow([task, name, *(f"{getattr(ranking, field)[at]:.4f}" for field in fields)])
