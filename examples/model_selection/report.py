"""Say whether the highest score picks the best model: a table, two CSV files and a picture.

    python examples/model_selection/report.py zoo=small

They go to `report/` in the zoo's folder: `table.md`, `ranking.csv` (every score beside every truth),
`checkpoints.csv` (every value of every checkpoint) and `model_selection.png`.
"""

from __future__ import annotations

import csv
import json
import math
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
from lightning_mi.examples.model_selection.sections import FIXED
from lightning_mi.examples.model_selection.truth import PHONE, TRUTHS, VOICE
from lightning_mi.examples.model_selection.zoo import Checkpoint, trained

DEFAULT = "bound/varied/near/mean/kmeans32"  # what the callback logs as val/mi_bound,
PHONETIC = "bound/independent/near/frame/whitened32"  # with callbacks=mi_bound_phonetic,
VOICED = "bound/independent/near/mean/whitened32"  # and with callbacks=mi_bound_voice
LOGGED = (DEFAULT, PHONETIC, VOICED)
LOSS = "validation loss"
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
ANY_BOUND, ANY_OF_OURS, ANY_RIVAL = "any bound", "any of ours", "any rival"


@dataclass(frozen=True)
class Results:
    """What the other programs have left.

    Attributes:
        checkpoints: Those that have finite embeddings.
        left_out: Names of the others.
        names: Of the scores, the validation loss last.
        scores: ``(N, S)``; higher is better.
        truth: For each truth ``(N,)`` accuracies.
        labelled: For each truth ``(N,)`` labelled bounds in nats.
    """

    checkpoints: Sequence[Checkpoint]
    left_out: Sequence[str]
    names: Sequence[str]
    scores: Floats
    truth: dict[str, Floats]
    labelled: dict[str, Floats]

    def zoo(self, truth: str) -> Zoo:
        """The scores beside one truth."""
        runs = [each.run.name for each in self.checkpoints]
        return Zoo(
            runs=np.array([runs.index(name) for name in runs]),
            objectives=np.array([each.run.objective for each in self.checkpoints]),
            steps=np.array([each.step for each in self.checkpoints]),
            honest=np.array([not each.run.bad for each in self.checkpoints]),
            scores=self.scores,
            truth=self.truth[truth],
        )

    def columns(self, family: str) -> list[int]:
        """Numbers of a family's scores."""
        families: tuple[str, ...] = {
            ANY_BOUND: OURS[:3],
            ANY_OF_OURS: OURS,
            ANY_RIVAL: RIVALS,
            CONTROLLED: OURS[:3],
        }.get(family, (family,))
        return [
            number
            for number, name in enumerate(self.names)
            if name.split("/")[0] in families and (f"/{FIXED}/" in name) == (family == CONTROLLED)
        ]


def load(config: DictConfig) -> Results:
    """Read what is there.

    Raises:
        FileNotFoundError: If no checkpoint is scored.
    """
    kept, left_out, rows = [], [], []
    for checkpoint in trained(config):
        paths = [Path(config.folder) / kind / f"{checkpoint.name}.json" for kind in ("truth", "scores")]
        if not all(path.exists() for path in paths):
            continue
        truth, scores = (json.loads(path.read_text(encoding="utf-8")) for path in paths)
        if scores["finite"]:
            kept.append(checkpoint)
            rows.append((truth, scores))
        else:
            left_out.append(checkpoint.name)
    if not rows:
        raise FileNotFoundError(
            f"folder={config.folder}: nothing is scored; run score_zoo.py with the same zoo first"
        )
    names = [name for name in rows[0][1]["scores"] if all(name in scores["scores"] for _, scores in rows)]
    table = [[scores["scores"][name]["value"] for name in names] for _, scores in rows]
    losses = np.array([-truth["validation_loss"] for truth, _ in rows])
    return Results(
        checkpoints=kept,
        left_out=left_out,
        names=[*names, LOSS],
        scores=np.column_stack([np.array(table), np.nan_to_num(losses, nan=-math.inf)]),
        truth={name: np.array([truth[name] for truth, _ in rows]) for name in TRUTHS},
        labelled={
            name: np.array([scores["labelled"][f"labelled bound/{name}"]["value"] for _, scores in rows])
            for name in TRUTHS
        },
    )


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
        families = [name for name in (*FAMILIES, ANY_BOUND, ANY_OF_OURS, ANY_RIVAL) if results.columns(name)]
        values: dict[str, list[float]] = {name: [] for name in families}
        regrets: dict[str, list[float]] = {name: [] for name in families}
        picks: dict[str, Counter[str]] = {name: Counter() for name in families}
        for _ in range(splits):
            half, other = zoo.halves(rng)
            here, there, lost = half.value(spearman), other.value(spearman), other.value(regret)
            for name in families:
                setting = choose(here, results.columns(name))
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
    rivals = {name: choose(here, results.columns(name)) for name in RIVALS}
    lines = []
    for family in (ANY_BOUND, ANY_OF_OURS, *FAMILIES):
        if results.columns(family):
            setting = choose(here, results.columns(family))
            cells = [family, f"`{results.names[setting]}`", _with_interval(there[setting], draws[:, setting])]
            cells += [_above(there, draws, setting, rival) for rival in rivals.values()]
            lines.append(f"| {' | '.join(cells)} |")
    return [*_above_header("family | chosen by one half | Spearman on the other"), *lines]


def short_lines(results: Results, rankings: dict[str, Ranking], fresh: dict[str, Floats]) -> list[str]:
    """The README's table: what can be logged, the rivals at the settings that are best for phones in hindsight,
    the validation loss and the labelled bound; regret and early stopping in percentage points."""
    header, names = ["score"], [*LOGGED]
    for truth in (PHONE, VOICE):
        header += [f"{truth}s: Spearman [95 %]", "fresh runs", "regret", "early stopping"]
    for family in RIVALS:
        names.append(results.names[choose(rankings[PHONE].spearman, results.columns(family))])
    lines = []
    for name in [*names, LOSS]:
        at, cells = results.names.index(name), [f"`{name}`"]
        for truth in (PHONE, VOICE):
            ranking = rankings[truth]
            across = [
                _with_interval(float(ranking.spearman[at]), ranking.draws[:, at]),
                f"{fresh[truth][at]:+.2f}" if truth in fresh else "-",
                f"{100 * ranking.regret[at]:.1f}",
            ]
            cells += [*(across if name != LOSS else ["-"] * 3), f"{100 * ranking.stopping[at]:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    ceiling = ["the labelled bound on the same sections"]
    for truth in (PHONE, VOICE):
        ceiling += [f"{spearman(results.labelled[truth][:, None], results.truth[truth])[0]:+.2f}", "-", "-", "-"]
    return [f"| {' | '.join(header)} |", "|---" * len(header) + "|", *lines, f"| {' | '.join(ceiling)} |"]


def fresh_lines(results: Results, truth: str, chosen_on: Sequence[str], config: Any) -> list[str]:
    """A Markdown table of what can be logged on the runs that took no part in choosing its settings, those that
    ``chosen_on`` does not name; rivals have the settings that rank best the runs that it does."""
    zoo = results.zoo(truth)
    took_part = np.array([each.run.name in chosen_on for each in results.checkpoints])
    seen, fresh = zoo.of_rows(took_part), zoo.of_rows(~took_part)
    here, values, lost = seen.value(spearman), fresh.value(spearman), fresh.value(regret)
    taus, stopping = fresh.value(kendall), fresh.stopping_regret(config.patience)
    draws = fresh.bootstrap(lambda drawn: drawn.value(spearman), config.bootstraps)
    rivals = [choose(here, results.columns(name)) for name in RIVALS]
    header = "score | Spearman on fresh runs | Kendall | regret, points | early stopping, points"
    lines = [
        f"{len(fresh.truth)} checkpoints of {len(np.unique(fresh.runs))} runs that chose no setting:",
        "",
        *_above_header(header),
    ]
    for setting in [*(results.names.index(name) for name in LOGGED), *rivals]:
        cells = [
            f"`{results.names[setting]}`",
            _with_interval(float(values[setting]), draws[:, setting]),
            f"{taus[setting]:+.2f}",
            f"{100 * lost[setting]:.1f}",
            f"{100 * stopping[setting]:.1f}",
            *(_above(values, draws, setting, rival) for rival in rivals),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def named_lines(results: Results, ranking: Ranking, names: Sequence[str]) -> list[str]:
    """A Markdown table of how far some scores are above each rival over the whole zoo, where each rival has the
    setting that suits it best, in hindsight."""
    rivals = {name: choose(ranking.spearman, results.columns(name)) for name in RIVALS}
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
    names = [*LOGGED]
    for family in FAMILIES:
        columns = results.columns(family)
        if columns:
            names.append(results.names[max(columns, key=lambda column: ranking.spearman[column])])
    return [*dict.fromkeys(names), LOSS]


def write_csvs(results: Results, rankings: dict[str, Ranking], folder: Path) -> None:
    """Write every number."""
    with (folder / "ranking.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        fields = ("spearman", "low", "high", "partial", "kendall", "objectives", "runs", "regret", "stopping")
        writer.writerow(["truth", "score", *fields])
        for truth, ranking in rankings.items():
            for at, name in enumerate(results.names):
                writer.writerow([truth, name, *(f"{getattr(ranking, field)[at]:.4f}" for field in fields)])
    with (folder / "checkpoints.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            [
                "run",
                "step",
                "objective",
                "bad",
                *TRUTHS,
                *(f"labelled {truth}" for truth in TRUTHS),
                *results.names,
            ]
        )
        for at, checkpoint in enumerate(results.checkpoints):
            run = checkpoint.run
            values: list[Any] = [results.truth[truth][at] for truth in TRUTHS]
            values += [results.labelled[truth][at] for truth in TRUTHS]
            writer.writerow(
                [run.name, checkpoint.step, run.objective, run.bad]
                + [f"{value:.5g}" for value in [*values, *results.scores[at].tolist()]]
            )


def report(config: DictConfig) -> str:
    """Write the report, and return its text."""
    results = load(config)
    folder = Path(config.folder) / "report"
    folder.mkdir(parents=True, exist_ok=True)
    runs = {each.run.name: each.run for each in results.checkpoints}
    lines = [
        f"{len(results.checkpoints)} checkpoints of {len(runs)} runs "
        f"({sum(bool(run.bad) for run in runs.values())} of them bad on purpose); {len(results.names)} scores; "
        f"left out because of NaN or infinity in their embeddings: {', '.join(results.left_out) or 'none'}.",
    ]
    head, lines = lines, []
    rankings = {}
    chosen_on = list(config.report.chosen_on)
    for truth in tqdm(TRUTHS, desc="truths", unit="truth", disable=None):
        zoo = results.zoo(truth)
        other = PHONE if truth == VOICE else VOICE
        ranking = Ranking.of(
            zoo, results.truth[other], config.report.bootstraps, config.report.patience, config.seed
        )
        rankings[truth] = ranking
        held_out = HeldOut.of(results, truth, config.report.splits, config.seed)
        ceiling = float(spearman(results.labelled[truth][:, None], results.truth[truth])[0])
        best = results.checkpoints[int(results.truth[truth].argmax())].name
        lines += [
            "",
            f"## {truth.capitalize()} accuracy",
            "",
            f"From {100 * zoo.truth.min():.1f} to {100 * zoo.truth.max():.1f} % (`{best}`). The labelled bound "
            f"on the scored sections, which no score without labels can be expected to pass: {ceiling:+.2f}.",
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
            *whole_lines(results, ranking, best_of_families(results, ranking), other),
            "",
            "What can be logged, and how far it is above each rival's best setting (95 % intervals over runs):",
            "",
            *named_lines(results, ranking, LOGGED),
            *(["", *fresh_lines(results, truth, chosen_on, config.report)] if chosen_on else []),
        ]
    write_csvs(results, rankings, folder)
    took_part = np.array([each.run.name in chosen_on for each in results.checkpoints])
    fresh = {}
    if chosen_on and not took_part.all():
        fresh = {truth: results.zoo(truth).of_rows(~took_part).value(spearman) for truth in TRUTHS}
    text = "\n".join([*head, "", *short_lines(results, rankings, fresh), *lines]) + "\n"
    (folder / "table.md").write_text(text, encoding="utf-8")
    panels = [(name, truth) for truth, name in config.report.panels]
    draw(results, [panel for panel in panels if panel[0] in results.names], folder / "model_selection.png")
    return text


@hydra.main(version_base="1.3", config_path="../../configs", config_name="model_selection")
def main(config: DictConfig) -> None:
    """Report what is scored by now."""
    print(report(config))
    print(f"written to {Path(config.folder) / 'report'}")


if __name__ == "__main__":
    main()
