"""Train a speech model and watch the bound rise: every part is a Hydra config.

    python examples/train.py
    python examples/train.py model=apc callbacks.mi_bound.num_clusters=256 trainer.max_epochs=20
    python examples/train.py callbacks=content
    python examples/train.py -m model=hubert,apc seed=0,1,2

Returns the score of the chosen checkpoint, e.g. the highest ``val/mi_bound``, so that a Hydra sweeper can maximise
it.
"""

from __future__ import annotations

from pathlib import Path

import hydra
import lightning.pytorch as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import DictConfig

from lightning_mi import MIBoundCallback
from lightning_mi.examples.data.paths import from_start, start_folder
from lightning_mi.reporting.plots import bound_curve


@hydra.main(version_base="1.3", config_path="../configs", config_name="train")
def main(config: DictConfig) -> float | None:
    """Train what ``config`` describes, print a table of the validations and draw the curve."""
    pl.seed_everything(config.seed, workers=True, verbose=False)
    data = instantiate(config.data)
    model = instantiate(config.model)
    callbacks = [instantiate(callback) for callback in (config.callbacks or {}).values()]
    logger = instantiate(config.logger) or False
    trainer: pl.Trainer = instantiate(config.trainer, callbacks=callbacks, logger=logger)
    if config.validate_untrained and config.ckpt_path is None:
        trainer.validate(model, data, verbose=False)
    trainer.fit(model, data, ckpt_path=_ckpt_path(config.ckpt_path))
    bound = next((each for each in callbacks if isinstance(each, MIBoundCallback)), None)
    return None if bound is None else report(trainer, bound, config.figure)


def report(trainer: pl.Trainer, bound: MIBoundCallback, figure: str) -> float | None:
    """Print what the run has measured.

    Returns:
        The score of its chosen checkpoint in nats, else its highest bound; ``None`` if there is none.
    """
    if not len(bound.history):
        return None
    chosen = chosen_checkpoint(trainer, bound.arguments.log_name)
    if trainer.is_global_zero:
        bound_curve(bound.history).savefig(figure)
        print(f"\n{table(bound, None if chosen is None else epoch_of(chosen.best_model_path))}\n")
        if chosen is not None:
            print(f"chosen checkpoint: {_relative(chosen.best_model_path)}, by {chosen.monitor}")
        print(f"curve: {_relative(figure)}")
        print(f"TensorBoard: tensorboard --logdir {_relative(HydraConfig.get().runtime.output_dir)}")
    if chosen is not None and chosen.best_model_score is not None:
        return float(chosen.best_model_score)
    return max(each.primary.bound for each in bound.history if each.epoch >= 0)


def chosen_checkpoint(trainer: pl.Trainer, log_name: str) -> ModelCheckpoint | None:
    """The callback that has kept a checkpoint by the bound or by a difference of bounds."""
    prefix = log_name.split("/")[-1]
    for each in trainer.checkpoint_callbacks:
        monitor = getattr(each, "monitor", None) or ""
        ours = monitor == log_name or monitor.startswith(f"{prefix}/")
        if ours and isinstance(each, ModelCheckpoint) and each.best_model_path:
            return each
    return None


def epoch_of(checkpoint: str) -> int:
    """The epoch after which a checkpoint was written."""
    return int(torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)["epoch"])


def table(bound: MIBoundCallback, chosen: int | None) -> str:
    """The validations as text; that of the epoch ``chosen`` is marked."""
    lines = ["    epoch    step   val/mi_bound ± stderr (nats)"]
    for each in bound.history:
        epoch = "untrained" if each.epoch < 0 else str(each.epoch)
        mark = "  <- chosen checkpoint" if each.epoch >= 0 and each.epoch == chosen else ""
        lines.append(f"{epoch:>9} {each.step:>7}   {each.primary.bound:>12.3f} ± {each.primary.stderr:.3f}{mark}")
    return "\n".join(lines)


def _ckpt_path(given: str | None) -> str | None:
    """The path from where the program was started; Lightning's keywords and addresses as they are."""
    if given is None or "://" in given or given.split(":")[0] in ("best", "last", "hpc", "registry"):
        return given
    return str(from_start(given))


def _relative(path: str) -> str:
    """The path as the user's shell takes it."""
    here, there = start_folder(), Path(path).absolute()
    return str(there.relative_to(here) if there.is_relative_to(here) else there)


if __name__ == "__main__":
    main()
