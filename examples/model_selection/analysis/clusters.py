"""Report on the number of clusters: which K suits how many pairs, on the kept embeddings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor
from tqdm.auto import tqdm  # type: ignore[import-untyped,unused-ignore]

from lightning_mi.examples.model_selection.analysis.markdown import table
from lightning_mi.examples.model_selection.analysis.statistics import spearman
from lightning_mi.examples.model_selection.corpora.base import PHONE, SCORE, SPEAKER
from lightning_mi.examples.model_selection.scores.bounds import estimate_bound
from lightning_mi.examples.model_selection.scores.embed import BOUNDARY, MEAN, Embedded
from lightning_mi.examples.model_selection.scores.grid import DEFAULT, Setting
from lightning_mi.examples.model_selection.scores.segments import Segments
from lightning_mi.examples.model_selection.zoo import Checkpoint, corpora, segment_cutter, trained

PAIRS = (128, 256, 512, 1024, None)  # None: all
CLUSTERS = (4, 8, 16, 32, 64, 128)
DRAWS = 3


def report(config: DictConfig, folder: Path) -> list[str]:
    """Lines of the report."""
    checkpoints, zoo, accuracy = load(config)
    segments = segment_cutter(config)(corpora(config).load(SCORE))
    normal = np.array([not each.run.degenerate for each in checkpoints])
    lines = [
        f"{len(checkpoints)} checkpoints of `{config.folder}`, the callback's defaults but for the pooling and K.",
        "Each cell: mean bound of the normal checkpoints in nats, and Spearman's correlation with phone / speaker",
        f"accuracy over all; means over {DRAWS} draws of utterances.",
    ]
    for pooling in (BOUNDARY, MEAN):
        rows = []
        for num_pairs in PAIRS:
            total = len(segments.groups) if num_pairs is None else num_pairs
            cells = [str(total)]
            for num_clusters in tqdm(CLUSTERS, f"{pooling}, {total} pairs", leave=False, disable=None):
                setting = replace(DEFAULT, pooling=pooling, num_clusters=num_clusters)
                enough = num_clusters <= total // 4
                cells.append(_cell(bounds(zoo, segments, setting, num_pairs), accuracy, normal) if enough else "-")
            rows.append(cells)
        lines += ["", *table([f'pooling="{pooling}": pairs', *(f"K = {k}" for k in CLUSTERS)], rows)]
    return lines


def load(config: DictConfig) -> tuple[list[Checkpoint], list[Embedded], dict[str, Any]]:
    """Checkpoints with finite embeddings, these, and for phones and speakers ``(N,)`` accuracies.

    Raises:
        FileNotFoundError: If there is none.
    """
    folder = Path(config.folder)
    kept, zoo, accuracies = [], [], []
    for checkpoint in trained(config):
        path, probed = folder / f"embeddings/{checkpoint.name}.pt", folder / f"accuracies/{checkpoint.name}.json"
        if path.exists() and probed.exists():
            embedded = Embedded(**torch.load(path, weights_only=True))
            if embedded.is_finite():
                pooled = {key: z for key, z in embedded.pooled.items() if key[0] == DEFAULT.condition}
                kept.append(checkpoint)
                zoo.append(Embedded(pooled, embedded.frames))
                accuracies.append(json.loads(probed.read_text(encoding="utf-8")))
    if not kept:
        raise FileNotFoundError(f"folder={folder}: no embeddings; run score.py with the same zoo first")
    return kept, zoo, {task: np.array([each[task] for each in accuracies]) for task in (PHONE, SPEAKER)}


def bounds(zoo: Sequence[Embedded], segments: Segments, setting: Setting, num_pairs: int | None) -> Any:
    """``(draws, checkpoints)`` bounds in nats, of about ``num_pairs`` pairs."""
    found = []
    for draw in range(1 if num_pairs is None else DRAWS):
        rows = draw_rows(segments.groups, num_pairs, draw)
        found.append([estimate_bound(each, segments, setting, rows).bound for each in zoo])
    return np.array(found)


def draw_rows(groups: Tensor, num_pairs: int | None, draw: int) -> Tensor:
    """Rows of about ``num_pairs`` pairs: all those of some groups ``(N,)``, drawn at random."""
    if num_pairs is None:
        return torch.arange(len(groups))
    names = groups.unique()
    order = names[torch.randperm(len(names), generator=torch.Generator().manual_seed(draw))]
    kept = order[: max(2, round(len(names) * num_pairs / len(groups)))]
    return torch.isin(groups, kept).nonzero()[:, 0]


def _cell(found: Any, accuracy: dict[str, Any], normal: Any) -> str:
    ranks = [np.mean([spearman(each[:, None], values)[0] for each in found]) for values in accuracy.values()]
    return f"{found[:, normal].mean():.3f}, {' / '.join(f'{rho:+.2f}' for rho in ranks)}"
