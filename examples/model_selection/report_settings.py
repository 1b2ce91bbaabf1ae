"""Say what each choice in the bound's setting does to how it ranks models: one thing changed at a time.

    python examples/model_selection/report_settings.py \
        report.together_with=[runs/model_selection/seed1,runs/model_selection/recorded/full]

Of zoos that have a report: the mean over the zoos of what is measured inside of each. Written to
`report/settings.md` in the first one's folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import hydra
import numpy as np
from omegaconf import DictConfig

from lightning_mi.examples.model_selection.encode import FRAME, MEAN
from lightning_mi.examples.model_selection.ranks import spearman
from lightning_mi.examples.model_selection.report import CHECKPOINTS, within_runs
from lightning_mi.examples.model_selection.results import Results, in_common, read
from lightning_mi.examples.model_selection.scores import Setting
from lightning_mi.examples.model_selection.segments import (
    BRIEF,
    FAR,
    FIXED,
    HARSH,
    INDEPENDENT,
    LATER,
    LONG,
    NEAR,
    REVOICED,
    VARIED,
)
from lightning_mi.examples.model_selection.truth import PHONE, VOICE

USUAL = Setting(INDEPENDENT, NEAR, FRAME, "canonical")
CHANGES = {
    "own channels, 0.5 s, side by side, 32 canonical clusters": USUAL,
    "segments share the utterance's channel": replace(USUAL, view=VARIED),
    "all utterances have one channel, which only who makes the speech can have": replace(USUAL, view=FIXED),
    "channels that differ more": replace(USUAL, view=HARSH),
    "own channels, and each segment faster or slower": replace(USUAL, view=REVOICED),
    "0.25 s": replace(USUAL, view=BRIEF),
    "1 s, where there is room": replace(USUAL, view=LONG),
    "the usual of those pairs": replace(USUAL, among=LONG),
    "0.1 s between them": replace(USUAL, partner=LATER),
    "far from each other": replace(USUAL, partner=FAR),
    "plain k-means": replace(USUAL, quantizer="kmeans"),
    "whitened": replace(USUAL, quantizer="whitened"),
    "16 clusters": replace(USUAL, num_clusters=16),
    "64 clusters": replace(USUAL, num_clusters=64),
    "128 clusters": replace(USUAL, num_clusters=128),
    "a quadratic probe": replace(USUAL, probe="quadratic"),
    "a probe on random cosines": replace(USUAL, probe="fourier"),
}
"""What is changed, in words, and the setting then."""


def table(zoos: Sequence[Results], patience: int) -> list[str]:
    """Lines of Markdown, a row for each of :data:`CHANGES`: for frames and for means, and each truth, the rank
    correlation, its mean inside of runs, and the points lost by early stopping."""
    columns = [(pooling, truth) for pooling in (FRAME, MEAN) for truth in (PHONE, VOICE)]
    header = ["changed", *(f"{pooling}s: {truth}s" for pooling, truth in columns)]
    values = {}
    for truth in (PHONE, VOICE):
        of_zoos = [zoo.zoo(truth) for zoo in zoos]
        values[truth] = [
            np.mean([zoo.value(spearman) for zoo in of_zoos], axis=0),
            np.mean([within_runs(zoo) for zoo in of_zoos], axis=0),
            100 * np.mean([zoo.stopping_regret(patience) for zoo in of_zoos], axis=0),
        ]
    names = list(zoos[0].names)
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for words, setting in CHANGES.items():
        cells = [words]
        for pooling, truth in columns:
            at = names.index(f"bound/{replace(setting, pooling=pooling).name}")
            rank, inside, lost = (float(found[at]) for found in values[truth])
            cells.append(f"{rank:+.2f}, {inside:+.2f}, {lost:.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def report(config: DictConfig) -> str:
    """Write the report, and return its text."""
    folders = [config.folder, *config.report.together_with]
    zoos = in_common([read(Path(folder) / "report" / CHECKPOINTS) for folder in folders])
    lines = [
        f"Means over {len(zoos)} zoos, {', '.join(f'`{folder}`' for folder in folders)}.",
        "In each cell Spearman's rank correlation over all checkpoints, its mean over the honest runs inside of",
        "each, and what early stopping loses, in points.",
        "",
        *table(zoos, config.report.patience),
    ]
    text = "\n".join(lines) + "\n"
    folder = Path(config.folder) / "report"
    (folder / "settings.md").write_text(text, encoding="utf-8")
    return text


@hydra.main(version_base="1.3", config_path="../../configs", config_name="model_selection")
def main(config: DictConfig) -> None:
    """Report what is reported of each zoo by now."""
    print(report(config))
    print(f"written to {Path(config.folder) / 'report' / 'settings.md'}")


if __name__ == "__main__":
    main()
