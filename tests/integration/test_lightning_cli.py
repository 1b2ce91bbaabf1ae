"""LightningCLI builds the callback from the command line."""

import lightning.pytorch as pl
import pytest

from tests.helpers.models import TinySpeechModel, loader
from tests.helpers.speech import utterances

pytest.importorskip("jsonargparse")
from lightning.pytorch.cli import LightningCLI


class Data(pl.LightningDataModule):
    def train_dataloader(self):
        return loader(utterances(32))

    def val_dataloader(self):
        return loader(utterances(100))


def test_from_the_command_line(tmp_path):
    settings = {
        "callbacks.num_clusters": "8",
        "callbacks.sample_rate": "1000",
        "callbacks.gap_seconds": "[near, 0.25]",
        "callbacks.layers": "[rnn]",
        "callbacks.labels": "null",
        "max_epochs": "1",
        "logger": "false",
        "accelerator": "cpu",
        "enable_checkpointing": "false",
        "enable_progress_bar": "false",
    }
    arguments = ["fit", "--trainer.callbacks+=lightning_mi.MIBoundCallback"]
    arguments += [f"--trainer.{name}={value}" for name, value in settings.items()]
    cli = LightningCLI(TinySpeechModel, Data, args=arguments, save_config_callback=None)
    assert cli.trainer.callback_metrics["mi_bound/pairs"] == 100
    assert {"mi_bound/gap_0.25/bound", "mi_bound/layers/rnn/bound"} <= cli.trainer.callback_metrics.keys()
