"""Score every layer of every checkpoint of the zoo, with labels and without, as score_zoo does the output.

    python examples/model_selection/score_layers.py zoo=small

What is found of a checkpoint goes to `layers/` in the zoo's folder, and is made once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hydra
import lightning.pytorch as pl
import torch
from omegaconf import DictConfig
from torch import Tensor

from lightning_mi.embedding.discovery import find_encoder
from lightning_mi.embedding.outputs import frames_in_output
from lightning_mi.examples.model_selection.encode import FRAME, MEAN, Embedded, embed
from lightning_mi.examples.model_selection.local import Score
from lightning_mi.examples.model_selection.rivals import rankme
from lightning_mi.examples.model_selection.score_zoo import score_each, write_json
from lightning_mi.examples.model_selection.scores import Setting, as_json, bound_of, difference
from lightning_mi.examples.model_selection.segments import ANCHOR, FAR, INDEPENDENT, NEAR, VARIED, Segments
from lightning_mi.examples.model_selection.speech import SCORE
from lightning_mi.examples.model_selection.truth import PHONE, VOICE, accuracies
from lightning_mi.examples.model_selection.zoo import Checkpoint, corpora, crops, cutter

BOUNDS = (
    Setting(VARIED, NEAR, MEAN, "kmeans"),
    Setting(INDEPENDENT, NEAR, FRAME, "canonical"),
    Setting(INDEPENDENT, NEAR, MEAN, "canonical"),
    Setting(INDEPENDENT, NEAR, FRAME, "whitened"),
)
"""Those of the paper, of the callback's defaults for speech, the same with means, and with whitened clusters."""

LOCAL = Setting(INDEPENDENT, FAR, FRAME, "canonical")  # what is taken off the default for mi_bound/near_minus_far


def score_layer(embedded: Embedded, segments: Segments) -> dict[str, Score]:
    """What the callback can log of one layer, and RankMe, by the names that they have in the zoo's scores."""
    estimates = {setting: bound_of(embedded, segments, setting) for setting in (*BOUNDS, LOCAL)}
    scores = {
        f"bound/{setting.name}": Score(estimates[setting].bound, estimates[setting].stderr) for setting in BOUNDS
    }
    scores[f"difference/{BOUNDS[1].name}"] = difference(estimates[BOUNDS[1]], estimates[LOCAL])
    scores["RankMe/pooled"] = Score(rankme(embedded.of(VARIED, ANCHOR, MEAN)), float("nan"))
    return scores


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
    """Scores the layers of checkpoints, each of which is kept on disk.

    Args:
        config: The zoo's.
    """

    def __init__(self, config: DictConfig) -> None:
        self.folder = Path(config.folder) / "layers"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.layers = {kind: list(patterns) for kind, patterns in config.layers.items()}
        self.device = torch.device("cuda" if config.accelerator != "cpu" and torch.cuda.is_available() else "cpu")
        speech = corpora(config)
        cut = cutter(config)
        self.segments, self.seconds = cut(speech.load(SCORE)), cut.seconds
        self.truth = crops(config, speech)

    def __call__(self, checkpoint: Checkpoint) -> None:
        """Do what is not done yet."""
        path = self.folder / f"{checkpoint.name}.json"
        if path.exists():
            return
        module = checkpoint.run.restore(checkpoint.step).to(self.device)
        found = {}
        for name, encode in layers_of(module, self.layers[checkpoint.run.objective], self.device):
            embedded = embed(encode, self.segments, self.seconds, views=(VARIED, INDEPENDENT))
            truth = accuracies(encode, self.truth, truths=(PHONE, VOICE))
            scores = as_json(score_layer(embedded, self.segments)) if embedded.is_finite() else {}
            found[name] = {"truth": truth, "scores": scores}
        write_json(path, found)


@hydra.main(version_base="1.3", config_path="../../configs", config_name="model_selection")
def main(config: DictConfig) -> None:
    """Score the layers of the checkpoints that are there."""
    count = score_each(config, LayerScorer)
    print(f"layers of {count} checkpoints scored: {Path(config.folder) / 'layers'}")


if __name__ == "__main__":
    main()
