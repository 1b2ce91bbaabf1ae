"""Say how many clusters suit how many pairs, on the embeddings that score_zoo.py has kept.

    python examples/model_selection/report_clusters.py

For some numbers of pairs, of whole utterances drawn at random, the bound with K clusters: its mean over the honest
checkpoints in nats, and its rank correlation with phone and voice accuracy over all. Written to
`report/clusters.md`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor
from tqdm.auto import tqdm  # type: ignore[import-untyped,unused-ignore]

from lightning_mi import mi_bound
from lightning_mi.examples.model_selection.encode import FRAME, MEAN, Embedded
from lightning_mi.examples.model_selection.ranks import spearman
from lightning_mi.examples.model_selection.segments import ANCHOR, INDEPENDENT, NEAR
from lightning_mi.examples.model_selection.speech import SCORE
from lightning_mi.examples.model_selection.truth import PHONE, VOICE
from lightning_mi.examples.model_selection.zoo import Checkpoint, corpora, cutter, trained

PAIRS = (128, 256, 512, 1024, None)  # None: all
CLUSTERS = (4, 8, 16, 32, 64, 128)
QUANTIZER = "canonical"
DRAWS = 3


def draw_rows(groups: Tensor, num_pairs: int | None, draw: int) -> Tensor:
    """Rows of about ``num_pairs`` pairs: all those of some groups ``(N,)``, drawn at random."""
    if num_pairs is None:
        return torch.arange(len(groups))
    names = groups.unique()
    order = names[torch.randperm(len(names), generator=torch.Generator().manual_seed(draw))]
    kept = order[: max(2, round(len(names) * num_pairs / len(groups)))]
    return torch.isin(groups, kept).nonzero()[:, 0]


def bounds(zoo: Sequence[Embedded], groups: Tensor, pooling: str, num_pairs: int | None, num_clusters: int) -> Any:
    """``(draws, checkpoints)`` bounds in nats."""
    found = []
    for draw in range(1 if num_pairs is None else DRAWS):
        rows = draw_rows(groups, num_pairs, draw)
        found.append(
            [
                mi_bound(
                    each.of(INDEPENDENT, ANCHOR, pooling)[rows],
                    each.of(INDEPENDENT, NEAR, pooling)[rows],
                    num_clusters,
                    groups[rows],
                    quantizer=QUANTIZER,
                ).bound
                for each in zoo
            ]
        )
    return np.array(found)


def load(config: DictConfig) -> tuple[list[Checkpoint], list[Embedded], dict[str, Any]]:
    """Checkpoints that have finite embeddings, these, and for each truth ``(N,)`` accuracies.

    Raises:
        FileNotFoundError: If there is none.
    """
    folder = Path(config.folder)
    kept, zoo, truths = [], [], []
    for checkpoint in trained(config):
        path, truth = folder / f"embeddings/{checkpoint.name}.pt", folder / f"truth/{checkpoint.name}.json"
        if path.exists() and truth.exists():
            embedded = Embedded(**torch.load(path, weights_only=True))
            if embedded.is_finite():
                kept.append(checkpoint)
                zoo.append(
                    Embedded(
                        {key: embedded.pooled[key] for key in embedded.pooled if key[0] == INDEPENDENT},
                        embedded.frames,
                    )
                )
                truths.append(json.loads(truth.read_text(encoding="utf-8")))
    if not kept:
        raise FileNotFoundError(f"folder={folder}: nothing is embedded; run score_zoo.py with the same zoo first")
    return kept, zoo, {name: np.array([each[name] for each in truths]) for name in (PHONE, VOICE)}


def report(config: DictConfig) -> Iterator[str]:
    """Lines of the report, as they are found."""
    checkpoints, zoo, truth = load(config)
    groups = cutter(config)(corpora(config).load(SCORE)).groups
    honest = np.array([not each.run.bad for each in checkpoints])
    yield f"{len(checkpoints)} checkpoints of `{config.folder}`, own channels, {QUANTIZER} clusters; mean bound of"
    yield "the honest ones in nats, Spearman's correlation with phones / voices over all; means over"
    yield f"{DRAWS} draws of utterances."
    for pooling in (FRAME, MEAN):
        yield from (
            "",
            f"| {pooling}: pairs | {' | '.join(f'K = {k}' for k in CLUSTERS)} |",
            "|---" * (1 + len(CLUSTERS)) + "|",
        )
        for num_pairs in PAIRS:
            total = len(groups) if num_pairs is None else num_pairs
            cells = []
            for num_clusters in tqdm(CLUSTERS, f"{pooling}, {total} pairs", leave=False, disable=None):
                if num_clusters > total // 4:
                    cells.append("-")
                    continue
                found = bounds(zoo, groups, pooling, num_pairs, num_clusters)
                ranks = [np.mean([spearman(each[:, None], truth[name])[0] for each in found]) for name in truth]
                cells.append(f"{found[:, honest].mean():.3f}, {' / '.join(f'{rho:+.2f}' for rho in ranks)}")
            yield f"| {total} | {' | '.join(cells)} |"


@hydra.main(version_base="1.3", config_path="../../configs", config_name="model_selection")
def main(config: DictConfig) -> None:
    """Report what is embedded by now."""
    torch.set_num_threads(config.threads)
    lines = []
    for line in report(config):
        print(line, flush=True)
        lines.append(line)
    path = Path(config.folder) / config.report.name / "clusters.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
