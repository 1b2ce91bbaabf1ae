"""Scoring of every layer of a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from omegaconf import DictConfig
from torch import Tensor

from lightning_mi.embedding.discovery import find_encoder
from lightning_mi.embedding.outputs import frames_in_output
from lightning_mi.examples.model_selection.corpora.base import PHONE, SCORE, SPEAKER
from lightning_mi.examples.model_selection.probes import accuracies
from lightning_mi.examples.model_selection.scores.conditions import INDEPENDENT, SHARED
from lightning_mi.examples.model_selection.scores.embed import embed
from lightning_mi.examples.model_selection.scores.grid import LAYER_SCORES
from lightning_mi.examples.model_selection.scores.registry import compute_scores, score_names
from lightning_mi.examples.model_selection.scores.score import as_json
from lightning_mi.examples.model_selection.zoo import (
    Checkpoint,
    corpora,
    device_of,
    probe_speech,
    segment_cutter,
    write_json,
)


def layers_of(
    module: pl.LightningModule, patterns: list[str], device: torch.device
) -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
    """Names of the layers, from the bottom up, and for each ``(B, T)`` waveforms -> ``(B, T', D)``.

    Raises:
        ValueError: If a pattern names no layer, or a layer's output is no ``(B, T', D)``.
    """
    for pattern in patterns:
        for name in find_encoder(module, embed="forward", layers=pattern).layer_names:
            encoder = find_encoder(module, embed="forward", layers=name)

            def encode(waveforms: Tensor, encoder: Any = encoder, name: str = name) -> Tensor:
                output = encoder.run(waveforms.to(device))[name]
                frames = frames_in_output(output[0] if isinstance(output, tuple) else output, len(waveforms))
                if frames is None:
                    raise ValueError(f"layers: {name} has no (B, T', D) output; name another")
                return frames

            yield name, encode


class LayerScorer:
    """Scores the layers of checkpoints, and keeps those of each checkpoint on disk.

    Args:
        config: Config of the zoo.
    """

    def __init__(self, config: DictConfig) -> None:
        self.folder = Path(config.folder) / "layers"
        self.layers = {kind: list(patterns) for kind, patterns in config.layers.items()}
        self.device = device_of(config)
        speech = corpora(config)
        self.segments = segment_cutter(config)(speech.load(SCORE))
        self.downstream = probe_speech(config, speech)

    def __call__(self, checkpoint: Checkpoint) -> None:
        """Compute what is not on disk."""
        path = self.folder / f"{checkpoint.name}.json"
        if path.exists():
            return
        module = checkpoint.run.restore(checkpoint.step).to(self.device)
        found = {}
        for name, encode in layers_of(module, self.layers[checkpoint.run.objective], self.device):
            embedded = embed(encode, self.segments, conditions=(SHARED, INDEPENDENT))
            others = score_names() - set(LAYER_SCORES)
            scores = compute_scores(embedded, self.segments, known=others) if embedded.is_finite() else {}
            found[name] = {
                "accuracies": accuracies(encode, self.downstream, tasks=(PHONE, SPEAKER)),
                "scores": as_json({name: scores[name] for name in LAYER_SCORES if name in scores}),
            }
        write_json(path, found)
