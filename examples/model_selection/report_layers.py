"""Say whether the bound tells which layer of a model is best, and which model is best at its best layer.

    python examples/model_selection/report_layers.py zoo=small

Written to `report/layers.md` in the zoo's folder, from what score_layers.py has left there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import hydra
import numpy as np
from omegaconf import DictConfig

from lightning_mi.examples.model_selection.ranks import Floats, Zoo, interval, regret, spearman
from lightning_mi.examples.model_selection.truth import PHONE, VOICE
from lightning_mi.examples.model_selection.zoo import Checkpoint, trained

CLEAR = 0.01  # layers whose accuracies differ by less are not asked to be told apart
LOWEST, OUTPUT, ANY = "always the lowest", "always the output", "any at random"
FIXED = (LOWEST, OUTPUT, ANY)


@dataclass(frozen=True)
class Layers:
    """L layers of one checkpoint, from the bottom up, no two of them the same.

    Attributes:
        checkpoint: Of which.
        scores: ``(L, S)``.
        truth: For each truth ``(L,)`` accuracies.
    """

    checkpoint: Checkpoint
    scores: Floats
    truth: dict[str, Floats]


def load(config: DictConfig) -> tuple[list[str], list[Layers]]:
    """Names of the scores, and the layers of every checkpoint that is scored and has finite embeddings.

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
        # Of a model of one layer its output is once more that layer.
        new = [
            at for at in range(len(kept)) if at + 1 == len(kept) or not np.array_equal(scores[at], scores[at + 1])
        ]
        truth = {name: np.array([kept[at]["truth"][name] for at in new]) for name in (PHONE, VOICE)}
        found.append(Layers(checkpoint, scores[new], truth))
    if not found:
        raise FileNotFoundError(
            f"folder={config.folder}: no layer is scored; run score_layers.py with the same zoo first"
        )
    return names, found


def losses(layers: Layers, truth: str) -> Floats:
    """By how much the best layer's accuracy is above that of the layer that each score, and then each of
    :data:`FIXED`, takes: ``(S + 3,)``."""
    accuracy = layers.truth[truth]
    of_scores = regret(layers.scores, accuracy)
    return np.append(of_scores, [accuracy.max() - taken for taken in (accuracy[0], accuracy[-1], accuracy.mean())])


def told_apart(layers: Layers, truth: str) -> tuple[Floats, int]:
    """Of the pairs of layers whose accuracies differ by :data:`CLEAR`, how many each score orders rightly (half
    of those that it finds equal), ``(S,)``; and how many pairs there are."""
    accuracy, scores = layers.truth[truth], layers.scores
    right, pairs = np.zeros(scores.shape[1]), 0
    for better in range(len(accuracy)):
        for worse in range(len(accuracy)):
            if accuracy[better] - accuracy[worse] >= CLEAR:
                pairs += 1
                right += (scores[better] > scores[worse]) + 0.5 * (scores[better] == scores[worse])
    return right, pairs


def as_zoo(every: Sequence[Layers], scores: Floats, truth: Floats) -> Zoo:
    """Values of checkpoints ``(N, S)`` beside others ``(N,)``, to be drawn run by run."""
    of_runs = [layers.checkpoint.run for layers in every]
    names = [run.name for run in of_runs]
    return Zoo(
        runs=np.array([names.index(name) for name in names]),
        objectives=np.array([run.objective for run in of_runs]),
        steps=np.array([layers.checkpoint.step for layers in every]),
        honest=np.array([not run.bad for run in of_runs]),
        scores=scores,
        truth=truth,
    )


def choice_lines(names: Sequence[str], every: Sequence[Layers], truth: str, times: int) -> list[str]:
    """A Markdown table of which layer is taken, over the honest checkpoints that have several."""
    several = [each for each in every if len(each.scores) > 1 and not each.checkpoint.run.bad]
    if not several:
        return ["No honest checkpoint has several layers."]
    lost = np.array([losses(each, truth) for each in several])
    counts = [told_apart(each, truth) for each in several]
    right = np.array([found for found, _ in counts])
    pairs = np.array([number for _, number in counts], dtype=float)
    zoo = as_zoo(several, np.column_stack([lost, right]), pairs)

    def mean_loss(drawn: Zoo) -> Floats:
        return drawn.scores[:, : lost.shape[1]].mean(axis=0)

    def share(drawn: Zoo) -> Floats:
        return drawn.scores[:, lost.shape[1] :].sum(axis=0) / max(1.0, float(drawn.truth.sum()))

    loss, order = (_with_intervals(zoo, statistic, times) for statistic in (mean_loss, share))
    lines = [
        f"{len(several)} honest checkpoints have several layers, {sum(len(each.scores) for each in several)} in "
        f"all; {round(pairs.sum())} pairs of them differ by a point of accuracy or more:",
        "",
        "| the layer that is taken | points below the best layer [95 %] | pairs in the right order [95 %] |",
        "|---|---|---|",
    ]
    for at, name in enumerate([*names, *FIXED]):
        what = f"the highest of `{name}`" if at < len(names) else name
        points = " ".join(_cell(loss[:, at], "{:.1f}", 100))
        told = " ".join(_cell(order[:, at], "{:.0f} %", 100)) if at < len(names) else "-"
        lines.append(f"| {what} | {points} | {told} |")
    return lines


def zoo_lines(names: Sequence[str], every: Sequence[Layers], truth: str, times: int) -> list[str]:
    """A Markdown table of how the scores rank all models by what can be read from a layer."""
    lines = [
        "| score | its output, by the output's accuracy [95 %] | its highest layer, by the best layer's accuracy "
        "[95 %] | all layers as if each were a model [95 %] |",
        "|---|---|---|---|",
    ]
    of_layers = [layers for layers in every for _ in layers.scores]
    zoos = (
        as_zoo(
            every,
            np.array([each.scores[-1] for each in every]),
            np.array([each.truth[truth][-1] for each in every]),
        ),
        as_zoo(
            every,
            np.array([each.scores.max(axis=0) for each in every]),
            np.array([each.truth[truth].max() for each in every]),
        ),
        as_zoo(
            of_layers,
            np.concatenate([each.scores for each in every]),
            np.concatenate([each.truth[truth] for each in every]),
        ),
    )
    values = [_with_intervals(zoo, lambda drawn: drawn.value(spearman), times) for zoo in zoos]
    for at, name in enumerate(names):
        cells = [" ".join(_cell(found[:, at], "{:+.2f}", 1)) for found in values]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return lines


def _with_intervals(zoo: Zoo, statistic: Callable[[Zoo], Floats], times: int) -> Floats:
    """The statistic, and the ends of its interval, ``(3, S)``."""
    return np.stack([statistic(zoo), *interval(zoo.bootstrap(statistic, times))])


def _cell(value: Floats, how: str, factor: float) -> tuple[str, str]:
    middle, low, high = (how.format(factor * float(each)) for each in value)
    return middle, f"[{low}, {high}]"


def report(config: DictConfig) -> str:
    """Write the report, and return its text."""
    names, every = load(config)
    lines = [f"Layers of {len(every)} checkpoints of `{config.folder}`, seed {config.seed}."]
    for truth in (PHONE, VOICE):
        lines += ["", f"## Which layer has the most {truth}s", ""]
        lines += choice_lines(names, every, truth, config.report.bootstraps)
        lines += ["", f"## Which model has the most {truth}s: Spearman over the zoo", ""]
        lines += zoo_lines(names, every, truth, config.report.bootstraps)
    text = "\n".join(lines) + "\n"
    folder = Path(config.folder) / config.report.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "layers.md").write_text(text, encoding="utf-8")
    return text


@hydra.main(version_base="1.3", config_path="../../configs", config_name="model_selection")
def main(config: DictConfig) -> None:
    """Report what is scored by now."""
    print(report(config))
    print(f"written to {Path(config.folder) / config.report.name / 'layers.md'}")


if __name__ == "__main__":
    main()
