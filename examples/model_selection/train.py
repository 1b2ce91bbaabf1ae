"""Train the zoo: every run of the config, with checkpoints at steps that grow geometrically.

    python examples/model_selection/train.py zoo=small
    python examples/model_selection/train.py 'only=apc*'

A run that has all of its checkpoints is skipped; one that was stopped continues from its last checkpoint.
"""

from __future__ import annotations

import time
from pathlib import Path

import hydra
from omegaconf import DictConfig
from tqdm.auto import tqdm  # type: ignore[import-untyped,unused-ignore]

from lightning_mi.examples.model_selection.corpora.base import SCORE, TRAIN
from lightning_mi.examples.model_selection.corpora.data_module import ZooData
from lightning_mi.examples.model_selection.training import train
from lightning_mi.examples.model_selection.zoo import corpora, prepare_process, selected


@hydra.main(version_base="1.3", config_path="configs", config_name="model_selection")
def main(config: DictConfig) -> None:
    """Train what ``config`` describes."""
    prepare_process(config)
    speech = corpora(config)
    recordings, validation = speech.recordings(TRAIN), speech.recordings(SCORE)
    progress = tqdm(selected(config), desc="runs", unit="run", disable=None)
    for run in progress:
        start = time.perf_counter()
        data = ZooData(recordings, validation, config.batch_size, config.crop_seconds, run.noise)
        train(run, data, config.accelerator)
        progress.write(f"{run.name}: {len(run.steps)} checkpoints, {time.perf_counter() - start:.0f} s")
    print(f"checkpoints: {Path(config.folder) / 'checkpoints'}")


if __name__ == "__main__":
    main()
