"""Score every checkpoint of the zoo: downstream accuracy, scores without labels, labelled bounds.

    python examples/model_selection/score.py zoo=small

Each checkpoint's accuracies go to `accuracies/`, its embeddings to `embeddings/` and its scores to `scores/` in
the zoo's folder. What is there is not computed again; scores that are new in the grid are added. Delete `scores/`
to score the kept embeddings anew.
"""

from __future__ import annotations

from pathlib import Path

import hydra
from omegaconf import DictConfig

from lightning_mi.examples.model_selection.scoring import Scorer, score_each


@hydra.main(version_base="1.3", config_path="configs", config_name="model_selection")
def main(config: DictConfig) -> None:
    """Score the checkpoints on disk."""
    count = score_each(config, Scorer)
    print(f"{count} checkpoints scored: {Path(config.folder) / 'scores'}")


if __name__ == "__main__":
    main()
