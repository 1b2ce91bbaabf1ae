"""LightningCLI of either package builds the callback, from the command line and from a file."""

import subprocess
import sys

import lightning.pytorch as pl
import pytest
import pytorch_lightning as old

from lightning_mi import MIBoundCallback
from tests.helpers.models import TinySpeechModel, loader
from tests.helpers.speech import utterances

pytest.importorskip("jsonargparse")
from lightning.pytorch.cli import LightningCLI
from pytorch_lightning.cli import LightningCLI as OldCLI

QUIET = {
    "max_epochs": 1,
    "logger": False,
    "accelerator": "cpu",
    "enable_checkpointing": False,
    "enable_progress_bar": False,
}


class Data(pl.LightningDataModule):
    def train_dataloader(self):
        return loader(utterances(32))

    def val_dataloader(self):
        return loader(utterances(100))


class OldData(old.LightningDataModule):
    train_dataloader = Data.train_dataloader
    val_dataloader = Data.val_dataloader


class OldModel(old.LightningModule):
    """The same model under the older name."""

    def __init__(self):
        super().__init__()
        self.inner = TinySpeechModel()

    def forward(self, x):
        return self.inner(x)

    def training_step(self, batch, batch_idx):
        return self(batch).square().mean()

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return None


def run_from_the_command_line(cli, model, data, name, layer):
    settings = {
        "callbacks.num_clusters": "8",
        "callbacks.sample_rate": "1000",
        "callbacks.gap_seconds": "[near, 0.25]",
        "callbacks.pairs_per_utterance": "null",  # two of each have room
        "callbacks.layers": f"[{layer}]",
        "callbacks.labels": "null",
    }
    settings |= {name: str(value).lower() for name, value in QUIET.items()}
    arguments = ["fit", f"--trainer.callbacks+={name}"]
    arguments += [f"--trainer.{name}={value}" for name, value in settings.items()]
    made = cli(model, data, args=arguments, save_config_callback=None)
    assert made.trainer.callback_metrics["mi_bound/pairs"] == 200
    assert {"mi_bound/gap_0.25/bound", f"mi_bound/layers/{layer}/bound"} <= made.trainer.callback_metrics.keys()


def test_from_the_command_line():
    run_from_the_command_line(LightningCLI, TinySpeechModel, Data, "lightning_mi.MIBoundCallback", "rnn")


def test_from_the_command_line_of_the_older_name():
    name = "lightning_mi.pytorch_lightning.MIBoundCallback"
    run_from_the_command_line(OldCLI, OldModel, OldData, name, "inner.rnn")


def test_from_a_file_of_the_older_name_and_the_file_that_it_saves(tmp_path):
    """In a program of its own, which imports ``pytorch_lightning`` first: the usual name is enough."""
    config = tmp_path / "config.yaml"
    config.write_text(
        """
trainer:
  callbacks:
    - class_path: lightning_mi.MIBoundCallback
      init_args: {num_clusters: 8, sample_rate: 1000}
"""
    )
    code = f"""
import sys
from pytorch_lightning.cli import LightningCLI
sys.argv = ["train.py"]
from tests.integration.test_lightning_cli import QUIET, OldData, OldModel
for config in ({str(config)!r}, {str(tmp_path / "out" / "config.yaml")!r}):
    quiet = QUIET | {{"default_root_dir": {str(tmp_path / "out")!r}}}
    arguments = ["fit", f"--config={{config}}"]
    cli = LightningCLI(
        OldModel,
        OldData,
        trainer_defaults=quiet,
        args=arguments,
        save_config_kwargs={{"overwrite": True, "save_to_log_dir": True}},
    )
    print("logged", float(cli.trainer.callback_metrics["val/mi_bound"]))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-3000:]
    first, second = [line for line in run.stdout.splitlines() if line.startswith("logged")]
    assert first == second


def test_the_other_package_is_imported_only_if_the_program_has_done_so():
    code = """
import sys
import lightning_mi
assert "pytorch_lightning" not in sys.modules
import pytorch_lightning
from lightning_mi.pytorch_lightning import MIBoundCallback
assert issubclass(MIBoundCallback, lightning_mi.MIBoundCallback)
del sys.modules["lightning_mi"]
import lightning_mi
assert lightning_mi.MIBoundCallback is MIBoundCallback
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr


def test_checkpoints_of_one_class_are_read_by_the_other():
    from lightning_mi.pytorch_lightning import MIBoundCallback as Both

    assert Both(log_name="val/x").state_key == MIBoundCallback(log_name="val/x").state_key
