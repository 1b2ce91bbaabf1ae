"""Report on the layers: whether a score finds a model's best layer, and the model with the best layer."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from lightning_mi.examples.model_selection.analysis.markdown import table, with_interval
from lightning_mi.examples.model_selection.analysis.statistics import Floats, Zoo, regret, spearman
from lightning_mi.examples.model_selection.corpora.base import PHONE, SPEAKER
from lightning_mi.examples.model_selection.zoo import Checkpoint, trained

CLEAR = 0.01  # pairs of layers whose accuracies differ by less are not counted
LOWEST, OUTPUT, ANY = "always the lowest", "always the output", "any at random"
FIXED = (LOWEST, OUTPUT, ANY)


@dataclass(frozen=True)
class Layers:
    """L layers of one checkpoint, from the bottom up, no two of them the same.

    Attributes:
        checkpoint: The checkpoint.
        scores: ``(L, S)``.
        accuracy: For each task ``(L,)`` accuracies.
    """

    checkpoint: Checkpoint
    scores: Floats
    accuracy: dict[str, Floats]


def load(config: DictConfig) -> tuple[list[str], list[Layers]]:
    """Names of the scores, and the layers of every scored checkpoint with finite embeddings.

    Raises:
        FileNotFoundError: If there is none.
    """
    names: list[str] = []
    found = []
    for checkpoint in trained(config):
        path = Path(config.folder) / "layers" / f"{checkpoint.name}.json"
        kept = list(json.loads(path.read_text(encoding="utf-8")).values()) if path.exists() else []
        if not kept or not all(layer["scores"] for layer in kept):
            continue
        names = names or list(kept[0]["scores"])
        scores = np.array([[layer["scores"][name]["value"] for name in names] for layer in kept])
        # The output of a model with one layer is that layer again.
        new = [
            at for at in range(len(kept)) if at + 1 == len(kept) or not np.array_equal(scores[at], scores[at + 1])
        ]
        accuracy = {task: np.array([kept[at]["accuracies"][task] for at in new]) for task in (PHONE, SPEAKER)}
        found.append(Layers(checkpoint, scores[new], accuracy))
    if not found:
        raise FileNotFoundError(
            f"folder={config.folder}: no layer is scored; run score_layers.py with the same zoo first"
        )
    return names, found


def losses(layers: Layers, task: str) -> Floats:
    """Accuracy of the best layer minus that of the layer that each score, and each of :data:`FIXED`, takes.

    Returns:
        ``(S + 3,)``.
    """
    accuracy = layers.accuracy[task]
    of_scores = regret(layers.scores, accuracy)
    return np.append(of_scores, [accuracy.max() - taken for taken in (accuracy[0], accuracy[-1], accuracy.mean())])


def ordered_pairs(layers: Layers, task: str) -> tuple[Floats, int]:
    """How many of the pairs of layers whose accuracies differ by :data:`CLEAR` each score orders correctly.

    Returns:
        ``(S,)``, with half a pair for each tie, and the number of pairs.
    """
    accuracy, scores = layers.accuracy[task], layers.scores
    right, pairs = np.zeros(scores.shape[1]), 0
    for better in range(len(accuracy)):
        for worse in range(len(accuracy)):
            if accuracy[better] - accuracy[worse] >= CLEAR:
                pairs += 1
                right += (scores[better] > scores[worse]) + 0.5 * (scores[better] == scores[worse])
    return right, pairs


def as_zoo(every: Sequence[Layers], scores: Floats, accuracy: Floats) -> Zoo:
    """Values of checkpoints ``(N, S)`` beside others ``(N,)``, to be drawn run by run."""
    of_runs = [layers.checkpoint.run for layers in every]
    names = [run.name for run in of_runs]
    return Zoo(
        runs=np.array([names.index(name) for name in names]),
        objectives=np.array([run.objective for run in of_runs]),
        steps=np.array([layers.checkpoint.step for layers in every]),
        normal=np.array([not run.degenerate for run in of_runs]),
        scores=scores,
        accuracy=accuracy,
    )


def choice_lines(names: Sequence[str], every: Sequence[Layers], task: str, times: int) -> list[str]:
    """A table of which layer is taken, over the normal checkpoints that have several."""
    several = [each for each in every if len(each.scores) > 1 and not each.checkpoint.run.degenerate]
    if not several:
        return ["No normal checkpoint has several layers."]
    lost = np.array([losses(each, task) for each in several])
    counts = [ordered_pairs(each, task) for each in several]
    right = np.array([found for found, _ in counts])
    pairs = np.array([number for _, number in counts], dtype=float)
    zoo = as_zoo(several, np.column_stack([lost, right]), pairs)

    def mean_loss(drawn: Zoo) -> Floats:
        return drawn.scores[:, : lost.shape[1]].mean(axis=0)

    def share(drawn: Zoo) -> Floats:
        return drawn.scores[:, lost.shape[1] :].sum(axis=0) / max(1.0, float(drawn.accuracy.sum()))

    points, order = _cells(zoo, mean_loss, times, "{:.1f}", 100), _cells(zoo, share, times, "{:.0f} %", 100)
    rows = [
        [f"the highest of `{name}`", loss, told]
        for name, loss, told in zip(names, points[: len(names)], order, strict=True)
    ]
    rows += [[name, loss, "-"] for name, loss in zip(FIXED, points[len(names) :], strict=True)]
    return [
        f"{len(several)} normal checkpoints have several layers, {sum(len(each.scores) for each in several)} in "
        f"all; {round(pairs.sum())} pairs of them differ by a point of accuracy or more:",
        "",
        *table(
            ["the layer that is taken", "points below the best layer [95 %]", "pairs in the right order [95 %]"],
            rows,
        ),
    ]


def zoo_lines(names: Sequence[str], every: Sequence[Layers], task: str, times: int) -> list[str]:
    """A table of how the scores rank all models by what a probe reads from one of their layers."""
    of_layers = [layers for layers in every for _ in layers.scores]
    zoos = (
        as_zoo(
            every,
            np.array([each.scores[-1] for each in every]),
            np.array([each.accuracy[task][-1] for each in every]),
        ),
        as_zoo(
            every,
            np.array([each.scores.max(axis=0) for each in every]),
            np.array([each.accuracy[task].max() for each in every]),
        ),
        as_zoo(
            of_layers,
            np.concatenate([each.scores for each in every]),
            np.concatenate([each.accuracy[task] for each in every]),
        ),
    )
    columns = [_cells(zoo, lambda drawn: drawn.value(spearman), times, "{:+.2f}", 1) for zoo in zoos]
    header = [
        "score",
        "its output, by the output's accuracy [95 %]",
        "its highest layer, by the best layer's accuracy [95 %]",
        "all layers as if each were a model [95 %]",
    ]
    return table(header, [[f"`{name}`", *cells] for name, *cells in zip(names, *columns, strict=True)])


def _cells(zoo: Zoo, statistic: Callable[[Zoo], Floats], times: int, how: str, factor: float) -> list[str]:
    draws = zoo.bootstrap(statistic, times)
    return [with_interval(value, draws[:, at], how, factor) for at, value in enumerate(statistic(zoo).tolist())]


def report(config: DictConfig, folder: Path) -> list[str]:
    """Lines of the report."""
    names, every = load(config)
    lines = [f"Layers of {len(every)} checkpoints of `{config.folder}`, seed {config.seed}."]
    for task in (PHONE, SPEAKER):
        lines += ["", f"## Best layer for {task}s", ""]
        lines += choice_lines(names, every, task, config.report.bootstraps)
        lines += ["", f"## Best model for {task}s: Spearman over the zoo", ""]
        lines += zoo_lines(names, every, task, config.report.bootstraps)
    return lines
