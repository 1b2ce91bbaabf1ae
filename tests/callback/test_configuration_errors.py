"""What cannot be configured so: an error before the first batch or in the sanity check, else one warning."""

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from lightning_mi import MIBoundCallback
from tests.helpers.models import TinySpeechModel, Utterances, loader, quiet_trainer
from tests.helpers.run_callback import mi_callback, run_callback
from tests.helpers.speech import utterances


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"num_clusters": 0}, ValueError, "`num_clusters` must be at least 1, got 0"),
        ({"num_clusters": "64"}, TypeError, "`num_clusters` must be an int, got '64'"),
        ({"max_pairs": 0}, ValueError, "`max_pairs`"),
        ({"pairs_per_utterance": 0}, ValueError, "`pairs_per_utterance`"),
        ({"segment_seconds": 0}, ValueError, "`segment_seconds` must be positive"),
        ({"segment_seconds": -0.5}, ValueError, "`segment_seconds` must be positive"),
        ({"segment_seconds": float("nan")}, ValueError, "`segment_seconds`"),
        ({"segment_seconds": "0.5"}, TypeError, "`segment_seconds` must be a number"),
        ({"gap_seconds": -1}, ValueError, "`gap_seconds` must not be negative"),
        ({"sample_rate": 0}, ValueError, "`sample_rate`"),
        ({"sample_rate": "16k"}, TypeError, "`sample_rate` must be a number of samples"),
        ({"pooling": "max"}, ValueError, "`pooling` must be one of .* got 'max'"),
        ({"channels": "mine"}, ValueError, "`channels` must be one of .* got 'mine'"),
        (
            {"channels": "independent", "time_dim": 1},
            ValueError,
            "`channels='independent'` changes waveforms, got feature sequences",
        ),
        ({"every_n_epochs": 0}, ValueError, "`every_n_epochs`"),
        ({"seed": None}, TypeError, "`seed`"),
        ({"seed": 2**63}, ValueError, "`seed` must be from"),
        ({"input_baseline": "no"}, TypeError, "`input_baseline` must be True or False, got 'no'"),
        ({"null_control": None}, TypeError, "`null_control` must be True or False, got None"),
        ({"log_name": ""}, ValueError, "`log_name`"),
        ({"log_name": "val/"}, ValueError, "`log_name`.*got 'val/'"),
        ({"batch_to_waveforms": "x"}, TypeError, "`batch_to_waveforms` must be callable"),
    ],
)
def test_bad_arguments_are_named(kwargs, error, message):
    with pytest.raises(error, match=message):
        MIBoundCallback(**kwargs)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"embed": "encoder"}, "`embed` must name.*nearest names are"),
        ({"layers": ["encoder.*"]}, "`layers` must name.*"),
    ],
)
def test_unknown_names_are_errors_before_the_first_batch(kwargs, message):
    class NoBatch(Utterances):
        def __getitem__(self, index):
            raise AssertionError("a batch was loaded")

    trainer = quiet_trainer(callbacks=[mi_callback(**kwargs)])
    with pytest.raises(ValueError, match=message):
        trainer.fit(
            TinySpeechModel(), DataLoader(NoBatch(torch.zeros(4, 4))), DataLoader(NoBatch(torch.zeros(4, 4)))
        )


def test_layers_that_configure_model_makes_are_found_and_unknown_ones_named():
    class Late(TinySpeechModel):
        def configure_model(self):
            self.late = nn.Linear(16, 16)

        def encode(self, x):
            return self.late(self(x))

    trainer = quiet_trainer(callbacks=[mi_callback(layers=["late"], embed="encode")])
    trainer.fit(Late(), loader(utterances(32)), loader(utterances(64)))
    assert trainer.callback_metrics["mi_bound/pairs"] == 64
    trainer = quiet_trainer(callbacks=[mi_callback(layers=["never"])], num_sanity_val_steps=0)
    with pytest.raises(ValueError, match=r"`layers` must name.*'never'"):
        trainer.fit(Late(), loader(utterances(32)), loader(utterances(64)))


def test_prediction_needs_no_encoder():
    class Headless(pl.LightningModule):
        def predict_step(self, batch, batch_idx):
            return batch.sum()

    assert len(quiet_trainer(callbacks=[mi_callback()]).predict(Headless(), loader(utterances(64)))) == 2


def two_waveforms(count=64):
    x = utterances(count)
    return DataLoader([(row, row.flip(0)) for row in x], batch_size=16)


class TwoWaveforms(TinySpeechModel):
    def training_step(self, batch, batch_idx):
        return self.loss(batch[0])

    def validation_step(self, batch, batch_idx):
        pass


def test_an_unknown_batch_is_an_error_in_the_sanity_check():
    trainer = quiet_trainer(callbacks=[mi_callback()])
    with pytest.raises(ValueError, match=r"batch\[1\]: Tensor of shape \(16, 2000\)(.|\n)*batch_to_waveforms="):
        trainer.fit(TwoWaveforms(), two_waveforms(), two_waveforms())
    trainer = quiet_trainer(callbacks=[mi_callback(batch_to_waveforms=lambda batch: batch[0])])
    trainer.fit(TwoWaveforms(), two_waveforms(), two_waveforms())
    assert trainer.callback_metrics["mi_bound/pairs"] == 64


def test_an_unknown_batch_is_one_warning_once_training_has_begun():
    settings = {"max_epochs": 3, "num_sanity_val_steps": 0}
    run = run_callback(TwoWaveforms(), two_waveforms(), "fit", train=two_waveforms(), trainer=settings)
    (said,) = run.warnings
    assert "batch_to_waveforms=" in said
    assert run.trainer.current_epoch == 3
    assert "val/mi_bound" not in run.logged


class Changes(TinySpeechModel):
    """Goes by another name from the second epoch on."""

    def on_train_epoch_start(self):
        if self.current_epoch == 1:
            self.encoder = self.rnn
            del self.rnn

    def forward(self, x):
        return (self.rnn if hasattr(self, "rnn") else self.encoder)(self.spectrum(x))[0]


def test_a_module_that_changes_while_it_trains_is_one_warning():
    trainer = quiet_trainer(callbacks=[mi_callback(layers=["rnn"])], max_epochs=4)
    with pytest.warns(UserWarning, match=r"logs no value: `layers` must name.*'rnn'") as caught:
        trainer.fit(Changes(), loader(utterances(32)), loader(utterances(64)))
    assert sum("logs no value" in str(w.message) for w in caught) == 1
    assert trainer.current_epoch == 4


def test_a_run_without_a_validation_loop_is_warned_of():
    with pytest.warns(UserWarning, match="has no validation loop"):
        quiet_trainer(callbacks=[mi_callback()], limit_val_batches=0).fit(
            TinySpeechModel(), loader(utterances(32))
        )
