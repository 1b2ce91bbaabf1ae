"""Does a k-means that starts from the epoch before make curves smoother, or biased? On a model as it trains.

    python -m lightning_mi.examples.benchmarks.warm_start               # some five minutes on two cores

Trains APC on the speech of `make demo`, keeps the embeddings of the same segments at every epoch, and draws the
curve of the bound afresh and by `warm_start`, with the same splits, for many seeds. Printed are, for each number
of clusters, in nats:

- roughness: the root mean square of the curve's second differences, by the square root of 6: the noise of an
  epoch that is independent of its neighbours' (what the model itself does from epoch to epoch is in both columns);
- the mean of the differences warm - afresh over all epochs but the first, and its standard error over seeds.
"""

from __future__ import annotations

import argparse
import statistics

import lightning.pytorch as pl
import torch
from torch import Tensor

from lightning_mi import mi_bound
from lightning_mi.embedding.encoder import pool
from lightning_mi.embedding.isolation import isolated
from lightning_mi.examples.data import EspeakDataModule
from lightning_mi.examples.models import APCModule
from lightning_mi.inputs.batches import check_waveforms
from lightning_mi.inputs.segments import SegmentSampler, parse_gaps


class KeepEmbeddings(pl.Callback):
    """Keeps, at every validation, the embeddings of the same segments: ``(N, 2, D)`` each, and their groups."""

    def __init__(self) -> None:
        self.sampler = SegmentSampler(0.5, parse_gaps("near"), sample_rate=16_000, seed=0, pairs_per_utterance=4)
        self.epochs: list[Tensor] = []
        self.groups = torch.empty(0, dtype=torch.int64)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Embed all segments."""
        embeddings, groups = [], []
        loader = trainer.val_dataloaders
        assert loader is not None
        for batch in loader:
            found = check_waveforms((batch["waveforms"], batch["lengths"]), batch)
            segments = self.sampler(found)
            with isolated(pl_module, seed=0):
                frames = pl_module(segments.samples.flatten(0, 1)).unflatten(0, segments.samples.shape[:2])
            embeddings.append(pool(frames, "mean"))
            groups.append(segments.groups)
        self.epochs.append(torch.cat(embeddings))
        self.groups = torch.cat(groups)


def curve(kept: KeepEmbeddings, num_clusters: int, seed: int, warm_start: bool) -> list[float]:
    """The bound of every epoch."""
    bounds, clusters = [], None
    for z in kept.epochs:
        estimate = mi_bound(z[:, 0], z[:, 1], num_clusters, kept.groups, seed, start=clusters)
        clusters = estimate.clusters if warm_start else None
        bounds.append(estimate.bound)
    return bounds


def roughness(bounds: list[float]) -> float:
    """Root mean square of the second differences, by the square root of 6."""
    second = [a - 2 * b + c for a, b, c in zip(bounds, bounds[1:], bounds[2:], strict=False)]
    return (statistics.fmean(change**2 for change in second) / 6) ** 0.5


def main() -> None:
    """Train, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=20, help="of the split and the k-means")
    parser.add_argument("--utterances", type=int, default=1920)
    arguments = parser.parse_args()
    pl.seed_everything(0, verbose=False)
    kept = KeepEmbeddings()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=arguments.epochs,
        gradient_clip_val=1.0,
        callbacks=[kept],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(APCModule(), EspeakDataModule(utterances=arguments.utterances))
    pairs = len(kept.groups)
    print(f"{pairs} pairs, {len(kept.epochs)} epochs of APC, {arguments.seeds} seeds; nats")
    print("|   K | roughness afresh |  warm | warm - afresh | its standard error |")
    print("|-----|------------------|-------|---------------|--------------------|")
    for num_clusters in (16, 32, 64):
        afresh = [curve(kept, num_clusters, seed, warm_start=False) for seed in range(arguments.seeds)]
        warm = [curve(kept, num_clusters, seed, warm_start=True) for seed in range(arguments.seeds)]
        gains = [
            statistics.fmean(w - a for w, a in zip(one[1:], other[1:], strict=True))
            for one, other in zip(warm, afresh, strict=True)
        ]
        error = statistics.stdev(gains) / len(gains) ** 0.5
        rough = (statistics.fmean(map(roughness, curves)) for curves in (afresh, warm))
        cells = " | ".join(f"{value:.4f}" for value in (*rough, statistics.fmean(gains), error))
        print(f"| {num_clusters:3d} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
