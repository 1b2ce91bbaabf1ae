"""What is logged when, and what monitors, loggers and other callbacks see."""

import re

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import nn
from torch.utils.data import DataLoader

from lightning_mi.reporting.metric_names import METRICS
from tests.helpers.models import TinySpeechModel, loader, quiet_trainer
from tests.helpers.run_callback import mi_callback, run_callback, validate
from tests.helpers.speech import utterances

DETAILS = (
    "stderr",
    "entropy",
    "cross_entropy",
    "ceiling",
    "active_clusters",
    "pairs",
    "skipped",
    "seconds",
)


class Clears(TinySpeechModel):
    """Training takes away the noise that stands over its features: the truth rises at every step."""

    def __init__(self):
        super().__init__(lr=0.3)
        self.noise = nn.Parameter(torch.tensor(3.0))

    def forward(self, x):
        features = self.spectrum(x)
        return features + self.noise * torch.randn_like(features).mean(dim=1, keepdim=True)

    def loss(self, batch):
        return (self(batch) - self.spectrum(batch)).square().mean()


def test_rises_while_a_model_trains_and_picks_the_best_checkpoint(tmp_path):
    monitor = ModelCheckpoint(dirpath=tmp_path, monitor="val/mi_bound", mode="max", save_top_k=1)
    model, x = Clears(), utterances(300)
    untrained = run_callback(model, x).logged
    settings = {"max_epochs": 6, "enable_checkpointing": True}
    run = run_callback(
        model, x, "fit", train=loader(utterances(256, seed=1)), trainer=settings, callbacks=[monitor]
    )
    curve = [epoch["val/mi_bound"] for epoch in run.epochs]
    assert len(curve) == 6
    assert max(curve) > untrained["val/mi_bound"] + 3 * untrained["mi_bound/stderr"]
    assert monitor.best_model_score.item() == max(curve)
    assert f"epoch={curve.index(max(curve))}" in monitor.best_model_path
    assert [each.primary.bound for each in run.callback.history] == pytest.approx(curve, abs=1e-4)


def test_gain_over_the_best_epoch_before():
    settings = {"max_epochs": 5, "num_sanity_val_steps": 0}
    run = run_callback(Clears(), utterances(300), "fit", trainer=settings)
    estimates = [each["output", "near"] for each in run.estimates]
    assert "mi_bound/gain" not in run.epochs[0]
    for epoch in range(1, 5):
        best = max(estimates[:epoch], key=lambda estimate: estimate.bound)
        gain, stderr = estimates[epoch].gain_over(best)
        assert run.epochs[epoch]["mi_bound/gain"] == pytest.approx(gain, abs=1e-5)
        assert run.epochs[epoch]["mi_bound/gain_stderr"] == pytest.approx(stderr, abs=1e-5)
        assert run.epochs[epoch]["val/mi_bound"] - best.bound == pytest.approx(gain, abs=1e-4)
    assert "mi_bound/gain" not in run_callback(TinySpeechModel(), utterances(300), callback=run.callback).logged


def test_other_utterances_have_no_gain():
    class Changes(TinySpeechModel):
        def val_dataloader(self):
            return loader(utterances(100, seed=self.current_epoch))

    trainer = quiet_trainer(max_epochs=2, callbacks=[mi_callback()], reload_dataloaders_every_n_epochs=1)
    trainer.fit(Changes(), loader(utterances(32)))
    assert trainer.callback_metrics["mi_bound/pairs"] == 100
    assert "mi_bound/gain" not in trainer.callback_metrics


@pytest.mark.parametrize("sanity", [0, 2])
def test_early_stopping_from_the_first_epoch(sanity):
    stopping = EarlyStopping("val/mi_bound", mode="max", patience=2, strict=True)
    trainer = quiet_trainer(max_epochs=10, callbacks=[stopping, mi_callback()], num_sanity_val_steps=sanity)
    trainer.fit(TinySpeechModel(lr=0.0), loader(utterances(64)), loader(utterances(100)))
    assert trainer.current_epoch == 3  # a model that does not learn: the best epoch is the first
    assert stopping.stopped_epoch == 2


@pytest.mark.parametrize("run", ["fit", "validate", "test"])
def test_logged_in_every_kind_of_run(run):
    trainer, model, x = quiet_trainer(callbacks=[mi_callback()]), TinySpeechModel(), utterances(100)
    if run == "fit":
        trainer.fit(model, loader(x), loader(x))
    else:
        getattr(trainer, run)(model, loader(x), verbose=False)
    assert {"val/mi_bound", *(f"mi_bound/{name}" for name in DETAILS)} <= trainer.callback_metrics.keys()


def test_progress_bar_and_loggers(tmp_path):
    loggers = [CSVLogger(tmp_path, name="csv"), TensorBoardLogger(tmp_path, name="tb")]
    trainer = quiet_trainer(max_epochs=2, callbacks=[mi_callback()], logger=loggers)
    trainer.fit(TinySpeechModel(), loader(utterances(64)), loader(utterances(100)))
    assert "val/mi_bound" in trainer.progress_bar_metrics
    assert "mi_bound/stderr" not in trainer.progress_bar_metrics
    written = (tmp_path / "csv/version_0/metrics.csv").read_text()
    assert "val/mi_bound" in written
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tb/version_0")).Reload()
    assert len(events.Scalars("val/mi_bound")) == 2
    assert {f"mi_bound/{name}" for name in DETAILS} <= set(events.Tags()["scalars"])


def test_every_n_epochs_with_strict_early_stopping():
    at = []

    def waveforms(batch):
        at.append(trainer.current_epoch)
        return batch

    one = mi_callback(every_n_epochs=2, batch_to_waveforms=waveforms)
    stopping = EarlyStopping("val/mi_bound", mode="max", patience=10, strict=True)
    trainer = quiet_trainer(max_epochs=5, callbacks=[one, stopping], num_sanity_val_steps=0)
    trainer.fit(TinySpeechModel(), loader(utterances(32)), loader(utterances(32)))
    assert sorted(set(at)) == [0, 2, 4]
    assert trainer.current_epoch == 5


@pytest.mark.parametrize(
    ("settings", "between"),
    [
        ({"check_val_every_n_epoch": 2, "max_epochs": 8}, 8),
        ({"max_epochs": 4}, 4),
        ({"val_check_interval": 0.5, "max_epochs": 2}, 2),
    ],
)
def test_every_n_epochs_counts_validations(settings, between, tmp_path):
    """Of four validations, wherever they are, the first and the third have a value: ``between`` steps apart."""
    stopping = EarlyStopping("val/mi_bound", mode="max", patience=10, strict=True)
    run = run_callback(
        data=utterances(60),
        fn="fit",
        trainer=settings | {"num_sanity_val_steps": 0, "logger": CSVLogger(tmp_path)},
        callbacks=[stopping],
        every_n_epochs=2,
        num_clusters=4,
    )
    assert len(run.epochs) == 4
    first, third = (validation.step for validation in run.callback.history)
    assert third - first == between
    assert not run.warnings


def test_plot_every_n_epochs_counts_validations(tmp_path):
    pytest.importorskip("matplotlib")
    logger = TensorBoardLogger(tmp_path)
    settings = {"check_val_every_n_epoch": 2, "max_epochs": 6, "logger": logger}
    run_callback(data=utterances(60), fn="fit", trainer=settings, plot_every_n_epochs=2, num_clusters=4)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger.finalize("success")
    images = EventAccumulator(logger.log_dir).Reload().Images("mi_bound/curve")
    assert [image.step for image in images] == [4, 12]  # of the validations after 4, 8 and 12 steps


def test_two_callbacks_side_by_side():
    both = [mi_callback(), mi_callback(log_name="val/mi_bound_far", gap_seconds="far", seed=3)]
    trainer = quiet_trainer(callbacks=both)
    (logged,) = trainer.validate(TinySpeechModel(), loader(utterances(100)), verbose=False)
    assert logged["val/mi_bound"] != logged["val/mi_bound_far"]
    assert {"mi_bound/stderr", "mi_bound_far/stderr"} <= logged.keys()


def test_two_callbacks_with_the_same_names_are_an_error():
    both = [mi_callback(), mi_callback(log_name="test/mi_bound", seed=3)]
    with pytest.raises(ValueError, match=r"must end differently.*both would log mi_bound/stderr"):
        quiet_trainer(callbacks=both).validate(TinySpeechModel(), loader(utterances(100)), verbose=False)


def test_several_validation_loaders_are_pooled():
    class TwoLoaders(TinySpeechModel):
        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            pass

    x, module = utterances(200), TwoLoaders()
    one, _ = validate(module, loader(x))
    logged = quiet_trainer(callbacks=[mi_callback()]).validate(
        module, [loader(x[:50]), loader(x[50:])], verbose=False
    )
    for values in logged:
        assert values["val/mi_bound"] == pytest.approx(one["val/mi_bound"], abs=1e-5)


def test_reason_for_no_value_is_public_and_goes_with_the_next_value():
    one = mi_callback()
    run = run_callback(data=utterances(3), callback=one)
    assert "3 usable pairs" in one.no_value_reason
    assert one.estimates == {}
    assert one.no_value_reason in run.warnings[0]
    run_callback(callback=one)
    assert one.no_value_reason is None
    assert one.estimates.keys() == {("output", "near")}


def test_every_logged_name_is_in_the_list_of_metrics():
    """A run with everything on: each name has a row, and each row has a name."""
    module = TinySpeechModel()
    x = utterances(120)
    batches = DataLoader([(row, index % 7) for index, row in enumerate(x)], batch_size=32)
    module.validation_step = lambda batch, batch_idx: None
    run = run_callback(
        module,
        batches,
        "fit",
        trainer={"max_epochs": 2},
        num_clusters=4,
        gap_seconds=["near", "far", "same"],
        channels="independent",
        layers=["rnn", "head"],
        embed="predict",
        labels={"speaker": 1},
    )
    rows = {metric.name: re.compile(re.sub("<[a-z]+>", "(.+)", metric.name) + "$") for metric in METRICS}
    ours = [name for name in run.epochs[-1] if "mi_bound" in name]
    for name in ours:
        assert any(row.match(name) for row in rows.values()), name
    for row in rows.values():
        assert any(row.match(name) for name in ours), row.pattern


def test_a_value_before_the_first_step_is_told_for_what_it_is(caplog):
    with caplog.at_level("INFO"):
        run = run_callback()
        assert caplog.text.count("before the first training step") == 1
        caplog.clear()
        run_callback(module=run.trainer.lightning_module, fn="fit", trainer={"max_epochs": 1})
    assert "before the first training step" not in caplog.text
