"""Train the zoo: every run of the config, with checkpoints at steps that grow geometrically.

    python examples/model_selection/train.py zoo=small
    python examples/model_selection/train.py 'only=apc*'
    python examples/model_selection/train.py processes=16

A run that has all of its checkpoints is skipped; one that was stopped continues from its last checkpoint.
"""

from __future__ import annotations

from pathlib import Path

import hydra
from omegaconf import DictConfig

from lightning_mi.examples.model_selection.parallel import work_through
from lightning_mi.examples.model_selection.training import RunTrainer
from lightning_mi.examples.model_selection.zoo import selected


@hydra.main(version_base="1.3", config_path="configs", config_name="model_selection")
def main(config: DictConfig) -> None:
    """Train what ``config`` describes."""
    work_through(selected(config), RunTrainer, config, unit="run")
    print(f"checkpoints: {Path(config.folder) / 'checkpoints'}")


if __name__ == "__main__":
    main()
