"""Programs that import Lightning as ``pytorch_lightning``: the same value, and the same training as without us."""

import lightning.pytorch as pl
import pytest
import pytorch_lightning as old
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger

from lightning_mi import MIBoundCallback
from tests.helpers.models import loader
from tests.helpers.run_callback import callback_warnings
from tests.helpers.speech import SAMPLE_RATE, utterances

# Before, a Trainer refuses callbacks of the other name: `lightning_mi.pytorch_lightning` has one of both.
pytestmark = pytest.mark.skipif(
    tuple(map(int, old.__version__.split(".")[:2])) < (2, 6), reason="pytorch_lightning takes it from 2.6 on"
)

VALIDATION = utterances(120)


def module_of(package):
    class Module(package.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Linear(50, 8)

        def forward(self, x):
            return self.net(x.unfold(-1, 50, 50)).tanh()

        def training_step(self, batch, batch_idx):
            return self(batch).square().mean()

        def validation_step(self, batch, batch_idx):
            self.log("val/loss", self(batch).square().mean())

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    torch.manual_seed(0)
    return Module()


def trainer_of(package, callbacks, **settings):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return package.Trainer(**(quiet | {"callbacks": callbacks, "max_epochs": 3} | settings))


def fit(package, with_it=True, callbacks=(), **settings):
    package.seed_everything(0, verbose=False)
    module = module_of(package)
    ours = [MIBoundCallback(num_clusters=8, sample_rate=SAMPLE_RATE)] if with_it else []
    settings = {"enable_checkpointing": False} | settings
    trainer = trainer_of(package, [*ours, *callbacks], **settings)
    train = loader(utterances(64, seed=1), shuffle=True)
    trainer.fit(module, train, loader(VALIDATION), ckpt_path=None)
    return module.state_dict(), trainer, torch.get_rng_state()


def test_values_are_those_under_the_other_name_and_training_is_unchanged():
    weights, trainer, state = fit(old)
    without, _, state_without = fit(old, with_it=False)
    _, other, _ = fit(pl)
    assert all(torch.equal(weights[name], without[name]) for name in without)
    assert torch.equal(state, state_without)
    ours = {name: float(x) for name, x in trainer.callback_metrics.items() if "mi_bound" in name}
    assert {"val/mi_bound", "mi_bound/gain", "mi_bound/input", "mi_bound/null"} <= ours.keys()
    for name in ours.keys() - {"mi_bound/seconds"}:
        assert ours[name] == float(other.callback_metrics[name]), name


def test_its_callbacks_loggers_and_checkpoints(tmp_path):
    pytest.importorskip("matplotlib")
    saves = ModelCheckpoint(tmp_path, filename="{epoch}", monitor="val/mi_bound", mode="max", save_top_k=-1)
    stopping = EarlyStopping("val/mi_bound", mode="max", patience=5, strict=True)
    logger = CSVLogger(tmp_path)
    _, trainer, _ = fit(old, callbacks=[saves, stopping], logger=logger, enable_checkpointing=True)
    assert saves.best_model_score == max(each for each in saves.best_k_models.values())
    assert sorted(path.name for path in tmp_path.rglob("*.png")) == ["clusters.png", "curve.png"]
    resumed = MIBoundCallback(num_clusters=8, sample_rate=SAMPLE_RATE)
    again = trainer_of(old, [resumed], max_epochs=4, enable_checkpointing=False)
    with callback_warnings() as said:
        path = tmp_path / "epoch=2.ckpt"
        again.fit(module_of(old), loader(utterances(64, seed=1)), loader(VALIDATION), ckpt_path=path)
    assert [each.epoch for each in resumed.history] == [0, 1, 2, 3]
    assert not said


def test_a_run_without_validation_is_warned_of():
    class Headless(old.LightningModule):
        def forward(self, x):
            return x

        def training_step(self, batch, batch_idx):
            return None

        def configure_optimizers(self):
            return None

    trainer = trainer_of(old, [MIBoundCallback(sample_rate=SAMPLE_RATE)], max_epochs=1, enable_checkpointing=False)
    with pytest.warns(UserWarning, match="has no validation loop"):
        trainer.fit(Headless(), loader(utterances(8)))


def test_a_callback_of_the_other_name_is_warned_of_and_named(tmp_path):
    mixed = pl.callbacks.ModelCheckpoint(tmp_path, monitor="val/mi_bound", mode="max")
    with callback_warnings() as said:
        fit(old, callbacks=[mixed], max_epochs=1)
    (text,) = [text for text in said if "sees" in text]
    assert "sees lightning.pytorch.callbacks.ModelCheckpoint in a Trainer of pytorch_lightning" in text
    assert "Import Trainer and callbacks from pytorch_lightning." in text
    with callback_warnings() as said:
        fit(pl, max_epochs=1)
    assert not said
