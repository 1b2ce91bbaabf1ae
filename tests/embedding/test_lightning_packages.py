"""Modules and strategies of either Lightning package are recognised, and the user's own classes are not."""

import lightning.pytorch as pl
import pytest
import pytorch_lightning as old
from lightning.pytorch.demos.boring_classes import BoringModel
from torch import nn

from lightning_mi.embedding.lightning_packages import (
    callbacks_of_the_other_package,
    is_lightning_module,
    is_sharded,
    overrides,
)

PACKAGES = pytest.mark.parametrize("package", [pl, old], ids=["lightning.pytorch", "pytorch_lightning"])


@PACKAGES
def test_modules_and_strategies_of_either_package(package):
    strategies = package.strategies
    assert is_lightning_module(package.LightningModule())
    assert is_sharded(strategies.FSDPStrategy())
    assert is_sharded(type("Mine", (strategies.ModelParallelStrategy,), {})())
    assert not is_sharded(strategies.DDPStrategy())
    assert not is_sharded(strategies.SingleDeviceStrategy())


def test_a_class_of_the_users_own_with_such_a_name_is_none():
    class LightningModule(nn.Module):
        pass

    class FSDPStrategy:
        pass

    assert not is_lightning_module(LightningModule())
    assert not is_sharded(FSDPStrategy())


@PACKAGES
def test_what_the_package_gives_to_all_modules_is_no_method_of_its_own(package):
    class Mine(package.LightningModule):
        def validation_step(self, batch, batch_idx):
            pass

    class Child(Mine):
        def forward(self, x):
            return x

    child = Child()
    assert overrides(child, "validation_step")
    assert overrides(child, "forward")
    assert not overrides(child, "configure_model")
    assert not overrides(Mine(), "forward")
    assert not overrides(package.LightningModule(), "validation_step")
    child.configure_model = lambda: None
    assert overrides(child, "configure_model")


def test_modules_that_lightning_ships_have_methods_of_their_own():
    assert overrides(BoringModel(), "validation_step")
    assert overrides(nn.Linear(1, 1), "forward")
    assert not overrides(nn.Linear(1, 1), "missing")


@pytest.mark.skipif(
    tuple(map(int, old.__version__.split(".")[:2])) < (2, 6), reason="Trainers refuse callbacks of the other name"
)
@PACKAGES
def test_callbacks_of_the_other_package_are_named(package):
    other = old if package is pl else pl

    def named(*callbacks):
        trainer = package.Trainer(
            logger=False, accelerator="cpu", enable_progress_bar=False, callbacks=list(callbacks)
        )
        return callbacks_of_the_other_package(trainer)

    assert named(package.callbacks.EarlyStopping("x"), package.callbacks.ModelCheckpoint()) == []
    own = type("Mine", (other.Callback,), {})  # works in both: so does MIBoundCallback
    assert named(own()) == []
    mine = type("Mine", (other.callbacks.EarlyStopping,), {})
    found = named(other.callbacks.ModelCheckpoint(monitor="x"), mine("x"))
    assert sorted(found) == [f"{other.__name__}.callbacks.{name}" for name in ("EarlyStopping", "ModelCheckpoint")]
