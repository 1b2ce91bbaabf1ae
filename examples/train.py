"""Train a speech model and watch the bound rise: every part is a Hydra config.

    python examples/train.py
    python examples/train.py model=apc callbacks.mi_bound.num_clusters=256 trainer.max_epochs=20
    python examples/train.py -m model=hubert,apc seed=0,1,2

Returns the highest ``val/mi_bound``, so that a Hydra sweeper can maximise it.
"""

from __future__ import annotations

from pathlib import Path

import hydra
import lightning.pytorch as pl
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import DictConfig

from lightning_mi.examples.curve import Curve


@hydra.main(version_base="1.3", config_path="../configs", config_name="train")
def main(config: DictConfig) -> float | None:
    """Train what ``config`` describes, print the table of its epochs and draw the curve."""
    pl.seed_everything(config.seed, workers=True, verbose=False)
    data = instantiate(config.data)
    model = instantiate(config.model)
    callbacks = [instantiate(callback) for callback in (config.callbacks or {}).values()]
    log_name = (config.callbacks or {}).get("mi_bound", {}).get("log_name", "val/mi_bound")
    curve = Curve(log_name)
    trainer: pl.Trainer = instantiate(
        config.trainer, callbacks=[*callbacks, curve], logger=instantiate(config.logger) or False
    )
    if config.validate_untrained and config.ckpt_path is None:
        trainer.validate(model, data, verbose=False)
    trainer.fit(model, data, ckpt_path=config.ckpt_path)
    return report(trainer, curve, config.figure)


def report(trainer: pl.Trainer, curve: Curve, figure: str) -> float | None:
    """Print what the run found and return its highest bound in nats, ``None`` if there was none."""
    trained = [point.bound for point in curve.points if point.epoch is not None]
    if not trained:
        return None
    if trainer.is_global_zero:
        checkpoint = trainer.checkpoint_callback
        checkpoint = checkpoint if isinstance(checkpoint, ModelCheckpoint) else None
        curve.draw(figure)
        print(f"\n{curve.table(checkpoint)}\n")
        if checkpoint is not None and checkpoint.best_model_path:
            print(f"chosen checkpoint: {_relative(checkpoint.best_model_path)}")
        print(f"curve: {_relative(figure)}")
        print(f"TensorBoard: tensorboard --logdir {_relative(HydraConfig.get().runtime.output_dir)}")
    return max(trained)


def _relative(path: str) -> str:
    here, there = Path.cwd(), Path(path).absolute()
    return str(there.relative_to(here) if there.is_relative_to(here) else there)


if __name__ == "__main__":
    main()
