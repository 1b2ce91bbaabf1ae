"""Score every layer of every checkpoint of the zoo, as score.py does the output.

    python examples/model_selection/score_layers.py zoo=small

The accuracies and scores of each checkpoint's layers go to `layers/` in the zoo's folder, computed once.
"""

from __future__ import annotations

from pathlib import Path

import hydra
from omegaconf import DictConfig

from lightning_mi.examples.model_selection.layer_scoring import LayerScorer
from lightning_mi.examples.model_selection.scoring import score_each


@hydra.main(version_base="1.3", config_path="configs", config_name="model_selection")
def main(config: DictConfig) -> None:
    """Score the layers of the checkpoints on disk."""
    count = score_each(config, LayerScorer)
    print(f"layers of {count} checkpoints scored: {Path(config.folder) / 'layers'}")


if __name__ == "__main__":
    main()
