"""Tables of one half: how well each score ranks taps, with intervals from drawing families of encoders."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lightning_mi.examples.model_selection.analysis.markdown import table, with_interval
from lightning_mi.examples.model_selection.analysis.statistics import Floats, Zoo, regret, spearman
from lightning_mi.examples.public_encoders.registry import PRETRAINED
from lightning_mi.examples.public_encoders.scores import RANKME
from lightning_mi.examples.public_encoders.truths import LANGUAGE, PHONES, TASKS, VOICES

_TIMES = 2000
_FEWEST_LAYERS = 4
_WHO = ("encoder", "tap", "family", "kind", "dimension")


@dataclass(frozen=True)
class Tap:
    """One tap: whose it is, its accuracies and its scores."""

    encoder: str
    tap: str
    family: str
    kind: str
    accuracies: Mapping[str, float]
    scores: Mapping[str, float]


def write_csv(taps: Sequence[Tap], path: Path) -> None:
    """One line for each tap."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        accuracies, scores = list(taps[0].accuracies), list(taps[0].scores)
        writer.writerow([*_WHO[:4], *accuracies, *scores])
        for each in taps:
            numbers = [each.accuracies[name] for name in accuracies] + [each.scores[name] for name in scores]
            writer.writerow(
                [each.encoder, each.tap, each.family, each.kind, *(f"{number:.5g}" for number in numbers)]
            )


@dataclass(frozen=True)
class Ranking:
    """Taps of one half as arrays.

    Args:
        taps: The taps.
        names: Scores that are of interest.
    """

    taps: Sequence[Tap]
    names: Sequence[str]

    def zoo(self, task: str, keep: Callable[[Tap], bool] = lambda _: True) -> Zoo:
        """Scores and accuracies of some of the taps; a run is a family, an objective an encoder."""
        taps = [each for each in self.taps if keep(each)]
        families = np.unique([each.family for each in taps], return_inverse=True)[1]
        return Zoo(
            runs=families,
            objectives=np.array([each.encoder for each in taps]),
            steps=np.zeros(len(taps)),
            normal=np.array([each.kind == PRETRAINED for each in taps]),
            scores=np.array([[each.scores[name] for name in self.names] for each in taps]),
            accuracy=np.array([each.accuracies[task] for each in taps]),
        )

    def rows(self, task: str) -> list[list[str]]:
        """Rows of the table of one task."""
        every, pretrained = self.zoo(task), self.zoo(task, _is_pretrained)
        layers = self.zoo(task, self._has_layers)
        columns: list[tuple[Floats, Any, str, float]] = []
        for zoo in (every, pretrained):
            draws = zoo.bootstrap(_overall, _TIMES)
            columns.append((zoo.value(spearman), draws, "{:+.2f}", 1.0))
        rankme = self.names.index(RANKME)
        values, draws = columns[0][:2]
        columns.insert(1, (values - values[rankme], draws - draws[:, [rankme]], "{:+.2f}", 1.0))
        values, draws = columns[2][:2]
        columns.append((values - values[rankme], draws - draws[:, [rankme]], "{:+.2f}", 1.0))
        columns.append((_inside(layers), layers.bootstrap(_inside, _TIMES), "{:+.2f}", 1.0))
        columns.append((every.value(regret), None, "{:.1f}", 100.0))
        columns.append((pretrained.value(regret), None, "{:.1f}", 100.0))
        return [
            [name]
            + [
                how.format(factor * float(value[i]))
                if draws is None
                else with_interval(float(value[i]), draws[:, i], how)
                for value, draws, how, factor in columns
            ]
            for i, name in enumerate(self.names)
        ]

    def of_encoder(self, task: str) -> list[list[str]]:
        """For each pretrained encoder of four taps or more, Spearman within it."""
        encoders = list(dict.fromkeys(each.encoder for each in self.taps if self._has_layers(each)))
        inside = [self.zoo(task, partial(_is_of, encoder)) for encoder in encoders]
        values = np.stack([zoo.value(spearman) for zoo in inside], axis=1)
        return [["", *encoders]] + [
            [name, *(f"{value:+.2f}" for value in values[i])] for i, name in enumerate(self.names)
        ]

    def _has_layers(self, tap: Tap) -> bool:
        return _is_pretrained(tap) and sum(each.encoder == tap.encoder for each in self.taps) >= _FEWEST_LAYERS


def _is_of(encoder: str, tap: Tap) -> bool:
    return tap.encoder == encoder


def _overall(zoo: Zoo) -> Floats:
    return zoo.value(spearman)


def _inside(zoo: Zoo) -> Floats:
    return zoo.within_objectives(spearman)


def _is_pretrained(tap: Tap) -> bool:
    return tap.kind == PRETRAINED


def markdown(taps: Sequence[Tap], names: Sequence[str], title: str) -> str:
    """The page of one half."""
    ranking = Ranking(taps, names)
    pretrained = [each for each in taps if _is_pretrained(each)]
    lines = [
        f"# {title}",
        "",
        f"{len(taps)} taps of {len({each.encoder for each in taps})} encoders in "
        f"{len({each.family for each in taps})} families; {len(pretrained)} taps are pretrained. Spearman's "
        "correlation with accuracy, 95 % intervals by drawing families; regret in points of accuracy.",
    ]
    header = [
        "score",
        "all taps",
        "above RankMe",
        "pretrained",
        "above RankMe",
        "layers of one model",
        "regret",
        "regret, pretrained",
    ]
    for task in TASKS:
        lines += ["", f"## {task.capitalize()}", "", *table(header, ranking.rows(task))]
        if task == PHONES:
            head, *rows = ranking.of_encoder(task)
            lines += ["", "Within the layers of each:", "", *table(["score", *head[1:]], rows)]
    lines += ["", "## Taps", ""]
    accuracies = [PHONES, "phones (espeak)", "phones (pocketsphinx)", VOICES, LANGUAGE]
    ordered = sorted(taps, key=lambda each: -each.accuracies[PHONES])
    lines += table(
        ["encoder", "tap", "kind", *accuracies],
        [
            [each.encoder, each.tap, each.kind, *(f"{100 * each.accuracies[name]:.1f}" for name in accuracies)]
            for each in ordered
        ],
    )
    return "\n".join(lines) + "\n"
