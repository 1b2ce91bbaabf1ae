r"""Say whether the highest score picks the best model: a table, two CSV files and a picture.

    python examples/model_selection/report.py zoo=small

They go to `report/` in the zoo's folder: `table.md`, `ranking.csv` (every score beside every truth),
`checkpoints.csv` (every value of every checkpoint) and `model_selection.png`.

Zoos that have a report may choose the settings that another is judged by, and several are reported as one:

    python examples/model_selection/report.py seed=1 folder=runs/seed1 report.chosen_in=[runs/model_selection/full]
    python examples/model_selection/report.py seed=1 folder=runs/seed1 \
        report.together_with=[runs/model_selection/full] report.name=both
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import numpy as np
from omegaconf import DictConfig
from tqdm.auto import tqdm  # type: ignore[import-untyped,unused-ignore]

from lightning_mi.examples.model_selection.pictures import draw
from lightning_mi.examples.model_selection.ranks import (
    Floats,
    Zoo,
    choose,
    interval,
    kendall,
    partial_spearman,
    regret,
    spearman,
)
from lightning_mi.examples.model_selection.results import LOSS, Results, in_common, load, read, together, write
from lightning_mi.examples.model_selection.segments import FIXED
from lightning_mi.examples.model_selection.truth import PHONE, VOICE

# What the callback logs, by its configs.
PAPER = "bound/varied/near/mean/kmeans32"  # callbacks=mi_bound_paper
DEFAULT = (
    "bound/independent/near/frame/canonical32"  # callbacks=mi_bound: own channels, boundary frames, canonical
)
LOCAL = "difference/independent/near/frame/canonical32"  # mi_bound/near_minus_far of callbacks=mi_bound_phonetic,
LOCAL_SHARE = "share difference/independent/near/frame/canonical32"  # and as a share of H(c)
WHITENED = "bound/independent/near/frame/whitened32"  # as the default with quantizer=whitened,
MEAN = "bound/independent/near/mean/canonical32"  # with pooling=mean,
VOICES = "bound/long/near/mean/canonical32"  # and of segments of a second: callbacks=mi_bound_voice
LOGGED = (PAPER, DEFAULT, LOCAL, LOCAL_SHARE, WHITENED, MEAN, VOICES)
OURS = (
    "bound",
    "bound on the residual",
    "bound given the far cluster",
    "difference",
    "conditional difference",
    "share",
    "share difference",
)
CONTROLLED = "bounds at a fixed channel"  # which only who makes the speech can have: in no other family of ours
RIVALS = ("RankMe", "LiDAR", "alpha-ReQ", "clusters")
FAMILIES = (*OURS, CONTROLLED, *RIVALS)
CHECKPOINTS = "checkpoints.csv"
ANY_BOUND, ANY_OF_OURS, ANY_RIVAL = "any bound", "any of ours", "any rival"


def columns_of(results: Results, family: str) -> list[int]:
    """Numbers of a family's scores."""
    families: tuple[str, ...] = {
        ANY_BOUND: OURS[:3],
        ANY_OF_OURS: OURS,
        ANY_RIVAL: RIVALS,
        CONTROLLED: OURS[:3],
    }.get(family, (family,))
    return [
        number
        for number, name in enumerate(results.names)
        if name.split("/")[0] in families and (f"/{FIXED}/" in name) == (family == CONTROLLED)
    ]


def within_runs(zoo: Zoo) -> Floats:
    """Mean over the honest runs of Spearman's correlation inside of each, ``(S,)``."""
    inside = [zoo.of_rows(zoo.runs == run) for run in np.unique(zoo.runs[zoo.honest])]
    values = [each.value(spearman) for each in inside if len(each.truth) > 2]
    return np.mean(values, axis=0) if values else np.full(zoo.scores.shape[1], np.nan)


@dataclass(frozen=True)
class Ranking:
    """How every score ranks by one truth, over the whole zoo; ``(S,)`` each."""

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
        """Measure ``zoo``, with intervals over runs from ``times`` draws; ``partial`` holds the truth ``other``
        fixed."""
        draws = zoo.bootstrap(lambda drawn: drawn.value(spearman), times, seed)
        low, high = interval(draws)
        return Ranking(
            spearman=zoo.value(spearman),
            low=low,
            high=high,
            kendall=zoo.value(kendall),
            objectives=zoo.within_objectives(spearman),
            runs=within_runs(zoo),
            regret=zoo.value(regret),
            stopping=zoo.stopping_regret(patience),
            partial=partial_spearman(zoo.scores, zoo.truth, other),
            draws=draws,
        )


@dataclass(frozen=True)
class HeldOut:
    """What families do whose setting half of the runs chose, on the other half; over many ways to halve.

    Attributes:
        values: For each family ``(splits,)`` Spearman correlations on the other half.
        regrets: The same, regrets.
        picks: For each family, how often each score was chosen.
    """

    values: dict[str, Floats]
    regrets: dict[str, Floats]
    picks: dict[str, Counter[str]]

    @staticmethod
    def of(results: Results, truth: str, splits: int, seed: int) -> HeldOut:
        """Halve the runs in ``splits`` ways."""
        rng = np.random.default_rng(seed)
        zoo = results.zoo(truth)
        families = [name for name in (*FAMILIES, ANY_BOUND, ANY_OF_OURS, ANY_RIVAL) if columns_of(results, name)]
        values: dict[str, list[float]] = {name: [] for name in families}
        regrets: dict[str, list[float]] = {name: [] for name in families}
        picks: dict[str, Counter[str]] = {name: Counter() for name in families}
        for _ in range(splits):
            half, other = zoo.halves(rng)
            here, there, lost = half.value(spearman), other.value(spearman), other.value(regret)
            for name in families:
                setting = choose(here, columns_of(results, name))
                values[name].append(float(there[setting]))
                regrets[name].append(float(lost[setting]))
                picks[name][results.names[setting]] += 1
        return HeldOut(
            {name: np.array(found) for name, found in values.items()},
            {name: np.array(found) for name, found in regrets.items()},
            picks,
        )


def first_split(results: Results, truth: str, times: int, seed: int) -> list[str]:
    """A Markdown table on one split, fixed by the seed: what each family chose on the one half, how it ranks the
    other, and how far above each rival it is there, with intervals over the other half's runs."""
    half, other = results.zoo(truth).halves(np.random.default_rng(seed))
    here, there = half.value(spearman), other.value(spearman)
    draws = other.bootstrap(lambda drawn: drawn.value(spearman), times, seed)
    rivals = {name: choose(here, columns_of(results, name)) for name in RIVALS}
    lines = []
    for family in (ANY_BOUND, ANY_OF_OURS, *FAMILIES):
        if columns_of(results, family):
            setting = choose(here, columns_of(results, family))
            cells = [family, f"`{results.names[setting]}`", _with_interval(there[setting], draws[:, setting])]
            cells += [_above(there, draws, setting, rival) for rival in rivals.values()]
            lines.append(f"| {' | '.join(cells)} |")
    return [*_above_header("family | chosen by one half | Spearman on the other"), *lines]


def short_lines(results: Results, rankings: dict[str, Ranking]) -> list[str]:
    """The README's table: what can be logged, the rivals at the settings that are best for the first truth in
    hindsight, the validation loss and the labelled bound; regret and early stopping in percentage points."""
    header, names = ["score"], logged(results)
    shown = [truth for truth in (PHONE, VOICE) if truth in rankings] or list(rankings)
    for truth in shown:
        header += [f"{truth}s: Spearman [95 %]", "regret", "early stopping"]
    for family in RIVALS:
        names.append(results.names[choose(rankings[shown[0]].spearman, columns_of(results, family))])
    lines = []
    for name in [*names, LOSS]:
        at, cells = results.names.index(name), [f"`{name}`"]
        for truth in shown:
            ranking = rankings[truth]
            across = [
                _with_interval(float(ranking.spearman[at]), ranking.draws[:, at]),
                f"{100 * ranking.regret[at]:.1f}",
            ]
            cells += [*(across if name != LOSS else ["-"] * len(across)), f"{100 * ranking.stopping[at]:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    ceiling = ["the labelled bound on the same segments"]
    for truth in shown:
        ceiling += [f"{spearman(results.labelled[truth][:, None], results.truth[truth])[0]:+.2f}", "-", "-"]
    return [f"| {' | '.join(header)} |", "|---" * len(header) + "|", *lines, f"| {' | '.join(ceiling)} |"]


def logged(results: Results) -> list[str]:
    """What the callback can log, as far as it is scored."""
    return [name for name in LOGGED if name in results.names]


@dataclass(frozen=True)
class Fresh:
    """Checkpoints that chose no setting, and those that chose them all.

    Attributes:
        seen: Those that chose, of each zoo.
        fresh: Those that did not, with the same scores.
        source: Where ``seen`` comes from, in words.
    """

    seen: Sequence[Results]
    fresh: Results
    source: str

    @staticmethod
    def of(results: Results, config: Any) -> Fresh | None:
        """Those of the zoos that ``config``, the report's, names in ``chosen_in``, and ``results``; ``None`` where
        it names none.

        Raises:
            FileNotFoundError: If there is no report on one of them.
        """
        folders = list(config.chosen_in)
        if not folders:
            return None
        fresh, *seen = in_common([results, *(read(Path(folder) / "report" / CHECKPOINTS) for folder in folders)])
        count = sum(len(each.checkpoints) for each in seen)
        return Fresh(seen, fresh, f"the {count} checkpoints of {', '.join(f'`{folder}`' for folder in folders)}")

    def lines(self, truth: str, config: Any) -> list[str]:
        """A Markdown table of what ranks the fresh runs how well: what can be logged, what the others choose
        among ours, and the rivals, each at the setting that the others choose: the one that ranks best inside of
        each of their zoos, on the average."""
        here = np.mean([each.zoo(truth).value(spearman) for each in self.seen], axis=0)
        zoo = self.fresh.zoo(truth)
        values, taus, lost = zoo.value(spearman), zoo.value(kendall), zoo.value(regret)
        stopping = zoo.stopping_regret(config.patience)
        draws = zoo.bootstrap(lambda drawn: drawn.value(spearman), config.bootstraps)
        names = self.fresh.names

        def chosen(families: Sequence[str]) -> dict[str, int]:
            columns = {family: columns_of(self.fresh, family) for family in families}
            return {family: choose(here, found) for family, found in columns.items() if found}

        rivals = chosen(RIVALS)
        rows = {name: names.index(name) for name in logged(self.fresh)}
        rows |= {f"chosen, {family}": at for family, at in chosen((ANY_BOUND, ANY_OF_OURS, CONTROLLED)).items()}
        rows |= {f"chosen, {family}": at for family, at in rivals.items()}
        header = "score | Spearman on fresh runs | Kendall | regret, points | early stopping, points"
        lines = [
            f"{len(zoo.truth)} checkpoints of {len(np.unique(zoo.runs))} runs that chose no setting; those of the "
            f'rivals, and what is called "chosen", {self.source} chose:',
            "",
            *_above_header(header),
        ]
        for what, at in rows.items():
            cells = [
                f"`{what}`" if what == names[at] else f"{what}: `{names[at]}`",
                _with_interval(float(values[at]), draws[:, at]),
                f"{taus[at]:+.2f}",
                f"{100 * lost[at]:.1f}",
                f"{100 * stopping[at]:.1f}",
                *(_above(values, draws, at, rival) for rival in rivals.values()),
            ]
            lines.append(f"| {' | '.join(cells)} |")
        return lines


def named_lines(results: Results, ranking: Ranking, names: Sequence[str]) -> list[str]:
    """A Markdown table of how far some scores are above each rival over the whole zoo, where each rival has the
    setting that suits it best, in hindsight."""
    rivals = {name: choose(ranking.spearman, columns_of(results, name)) for name in RIVALS}
    lines = []
    for name in names:
        at = results.names.index(name)
        cells = [f"`{name}`", *(_above(ranking.spearman, ranking.draws, at, rival) for rival in rivals.values())]
        lines.append(f"| {' | '.join(cells)} |")
    return [*_above_header("score"), *lines]


def _above_header(first: str) -> list[str]:
    header = f"| {first} | {' | '.join(f'above {name}' for name in RIVALS)} |"
    return [header, "|---" * (header.count("|") - 1) + "|"]


def _above(values: Floats, draws: Floats, setting: int, rival: int) -> str:
    if setting == rival:
        return "-"
    return _with_interval(values[setting] - values[rival], draws[:, setting] - draws[:, rival])


def _with_interval(value: float, draws: Floats) -> str:
    low, high = interval(draws)
    return f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"


def held_out_lines(held_out: HeldOut) -> list[str]:
    """A Markdown table of the families."""
    lines = ["| family | Spearman on the other half | regret, points | chosen most |", "|---|---|---|---|"]
    for family, values in held_out.values.items():
        low, high = np.percentile(values, [5, 95])
        (name, often), *_ = held_out.picks[family].most_common(1)
        lines.append(
            f"| {family} | {values.mean():+.2f} ({low:+.2f} to {high:+.2f}) | "
            f"{100 * held_out.regrets[family].mean():.1f} | `{name}` ({often} of {len(values)}) |"
        )
    return lines


def whole_lines(results: Results, ranking: Ranking, names: Sequence[str], other: str) -> list[str]:
    """A Markdown table of some scores over the whole zoo."""
    lines = [
        f"| score | Spearman [95 %] | beyond {other} | Kendall | by objective | by run | regret, points "
        "| early stopping, points |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in names:
        at = results.names.index(name)
        everywhere = name != LOSS  # which is another unit in each objective
        overall = _with_interval(ranking.spearman[at], ranking.draws[:, at])
        lines.append(
            f"| `{name}` | {overall if everywhere else '-'} | {_number(ranking.partial[at], everywhere)} | "
            f"{_number(ranking.kendall[at], everywhere)} | "
            f"{_number(ranking.objectives[at], everywhere)} | {ranking.runs[at]:+.2f} | "
            f"{f'{100 * ranking.regret[at]:.1f}' if everywhere else '-'} | {100 * ranking.stopping[at]:.1f} |"
        )
    return lines


def _number(value: float, shown: bool) -> str:
    return f"{value:+.2f}" if shown else "-"


def best_of_families(results: Results, ranking: Ranking) -> list[str]:
    """What can be logged, of each family the score that ranks the whole zoo best (in hindsight), and the loss."""
    names = logged(results)
    for family in FAMILIES:
        columns = columns_of(results, family)
        if columns:
            names.append(results.names[max(columns, key=lambda column: ranking.spearman[column])])
    return [*dict.fromkeys(names), LOSS]


def write_ranking(results: Results, rankings: dict[str, Ranking], path: Path) -> None:
    """Write every number of every ranking."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        fields = ("spearman", "low", "high", "partial", "kendall", "objectives", "runs", "regret", "stopping")
        writer.writerow(["truth", "score", *fields])
        for truth, ranking in rankings.items():
            for at, name in enumerate(results.names):
                writer.writerow([truth, name, *(f"{getattr(ranking, field)[at]:.4f}" for field in fields)])


def truth_lines(
    results: Results, ranking: Ranking, truth: str, fresh: Fresh | None, config: DictConfig
) -> list[str]:
    """All that is said of one truth."""
    accuracy = results.truth[truth]
    held_out = HeldOut.of(results, truth, config.report.splits, config.seed)
    ceiling = float(spearman(results.labelled[truth][:, None], accuracy)[0])
    best = results.checkpoints[int(accuracy.argmax())].name
    return [
        "",
        f"## {truth.capitalize()} accuracy",
        "",
        f"From {100 * accuracy.min():.1f} to {100 * accuracy.max():.1f} % (`{best}`). The labelled bound "
        f"on the scored segments, which no score without labels can be expected to pass: {ceiling:+.2f}.",
        "",
        f"Settings chosen on half of the runs, judged on the other half; mean (5 to 95 %) of "
        f"{config.report.splits} ways to halve:",
        "",
        *held_out_lines(held_out),
        "",
        f"One split (seed {config.seed}), with 95 % intervals over the runs of the other half; above the "
        "settings of each rival that the first half chose:",
        "",
        *first_split(results, truth, config.report.bootstraps, config.seed),
        "",
        "The whole zoo; of each family the setting that is best there, in hindsight:",
        "",
        *whole_lines(results, ranking, best_of_families(results, ranking), other_truth(results, truth)),
        "",
        "What can be logged, and how far it is above each rival's best setting (95 % intervals over runs):",
        "",
        *named_lines(results, ranking, logged(results)),
        *(
            ["", *fresh.lines(truth, config.report)]
            if fresh and all(truth in each.truth for each in fresh.seen)
            else []
        ),
    ]


def other_truth(results: Results, truth: str) -> str:
    """What is held fixed beside it: voices, or phones beside voices, as far as they are known."""
    others = [name for name in (VOICE, PHONE, *results.truth) if name in results.truth and name != truth]
    return others[0] if others else truth


def report(config: DictConfig) -> str:
    """Write the report, and return its text."""
    results = load(config)
    if config.report.together_with:
        others = [read(Path(folder) / "report" / CHECKPOINTS) for folder in config.report.together_with]
        results = together([results, *others])
    folder = Path(config.folder) / config.report.name
    folder.mkdir(parents=True, exist_ok=True)
    bad = {each.run: bool(each.bad) for each in results.checkpoints}
    fresh = Fresh.of(results, config.report)
    rankings, lines = {}, []
    for truth in tqdm(results.truth, desc="truths", unit="truth", disable=None):
        rankings[truth] = Ranking.of(
            results.zoo(truth),
            results.truth[other_truth(results, truth)],
            config.report.bootstraps,
            config.report.patience,
            config.seed,
        )
        lines += truth_lines(results, rankings[truth], truth, fresh, config)
    folders = " with ".join(f"`{name}`" for name in [config.folder, *config.report.together_with])
    head = (
        f"Seed {config.seed}, {folders}: {len(results.checkpoints)} checkpoints of {len(bad)} runs "
        f"({sum(bad.values())} of them bad on purpose); "
        f"{len(results.names)} scores; left out because of NaN or infinity in their embeddings: "
        f"{', '.join(results.left_out) or 'none'}."
    )
    text = "\n".join([head, "", *short_lines(results, rankings), *lines]) + "\n"
    (folder / "table.md").write_text(text, encoding="utf-8")
    write(results, folder / CHECKPOINTS)
    write_ranking(results, rankings, folder / "ranking.csv")
    panels = [(name, truth) for truth, name in config.report.panels]
    draw(results, [panel for panel in panels if panel[0] in results.names], folder / "model_selection.png")
    return text


@hydra.main(version_base="1.3", config_path="../../configs", config_name="model_selection")
def main(config: DictConfig) -> None:
    """Report what is scored by now."""
    print(report(config))
    print(f"written to {Path(config.folder) / config.report.name}")


if __name__ == "__main__":
    main()
