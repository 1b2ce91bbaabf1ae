"""Interrupted and resumed: the curve goes on as if nothing had happened."""

import math
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from lightning_mi import MIBoundCallback
from tests.helpers.models import TinySpeechModel, loader, quiet_trainer
from tests.helpers.run_callback import callback_warnings, mi_callback, run_callback
from tests.helpers.speech import SAMPLE_RATE, utterances

EPOCHS = 6


class Curve(pl.Callback):
    """Every value of every epoch, but for the seconds."""

    def __init__(self):
        self.epochs = {}

    def on_validation_end(self, trainer, pl_module):
        if not trainer.sanity_checking:
            self.epochs[trainer.current_epoch] = {
                name: value.item()
                for name, value in trainer.callback_metrics.items()
                if "mi_bound" in name and not name.endswith("/seconds")
            }


def fit(folder, callbacks, epochs=EPOCHS, ckpt_path=None, **settings):
    """The curve from where the run began to ``epochs``, and what the callback said."""
    torch.manual_seed(0)
    curve = Curve()
    saves = ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1)
    trainer = quiet_trainer(
        callbacks=[*callbacks, saves, curve], max_epochs=epochs, enable_checkpointing=True, **settings
    )
    with callback_warnings() as said:
        trainer.fit(
            TinySpeechModel(), loader(utterances(64, seed=1)), loader(utterances(120)), ckpt_path=ckpt_path
        )
    return curve.epochs, said


def two():
    return [
        mi_callback(),
        mi_callback(log_name="val/mi_bound_far", gap_seconds=["far", "near"], seed=3, pairs_per_utterance=2),
    ]


def test_interrupted_after_any_epoch(tmp_path):
    whole, _ = fit(tmp_path / "whole", two())
    assert list(whole) == list(range(EPOCHS))
    assert len({values["val/mi_bound"] for values in whole.values()}) == EPOCHS
    assert {"mi_bound/stderr", "mi_bound_far/gap_near/bound"} <= whole[0].keys()
    for done in range(1, EPOCHS):
        path = tmp_path / "whole" / f"epoch={done - 1}.ckpt"
        resumed, said = fit(tmp_path / f"resumed {done}", two(), ckpt_path=path)
        assert resumed == {epoch: whole[epoch] for epoch in range(done, EPOCHS)}  # to the last bit
        assert not said


def test_interrupted_where_the_next_epoch_logs_nothing(tmp_path):
    def callbacks():
        return [mi_callback(every_n_epochs=3), EarlyStopping("val/mi_bound", mode="max", patience=20, strict=True)]

    whole, _ = fit(tmp_path / "whole", callbacks())
    path = tmp_path / "whole" / "epoch=0.ckpt"
    resumed, _ = fit(tmp_path / "resumed", callbacks(), ckpt_path=path)
    assert [values["val/mi_bound"] for values in resumed.values()] == [
        whole[epoch]["val/mi_bound"] for epoch in range(1, EPOCHS)
    ]


def test_a_checkpoint_without_our_state(tmp_path):
    fit(tmp_path, [], epochs=2)
    resumed, said = fit(tmp_path / "on", two(), epochs=4, ckpt_path=tmp_path / "epoch=1.ckpt")
    assert list(resumed) == [2, 3]
    assert resumed[2]["val/mi_bound"] > 0
    assert not said


def test_a_checkpoint_with_our_state_loads_without_the_callback(tmp_path):
    fit(tmp_path, two(), epochs=2)
    trainer = quiet_trainer(max_epochs=3)
    with pytest.warns(UserWarning, match="callbacks used"):
        trainer.fit(TinySpeechModel(), loader(utterances(32)), ckpt_path=tmp_path / "epoch=1.ckpt")
    assert trainer.current_epoch == 3


def test_other_settings_are_said(tmp_path):
    fit(tmp_path, [mi_callback()], epochs=2)
    _, said = fit(
        tmp_path / "on",
        [mi_callback(segment_seconds=0.25, layers=["rnn"])],
        epochs=4,
        ckpt_path=tmp_path / "epoch=1.ckpt",
    )
    (message,) = said
    assert "`segment_seconds` was 0.5 and is 0.25, `layers` was None and is ['rnn']" in message
    assert "cannot be compared" in message


def test_other_settings_start_controls_and_gain_anew(tmp_path):
    fit(tmp_path, [mi_callback()], epochs=2)
    state = torch.load(tmp_path / "epoch=1.ckpt", weights_only=True)["callbacks"]
    (saved,) = (state[key] for key in state if key.startswith("MIBoundCallback"))
    other = mi_callback(segment_seconds=0.25)
    with pytest.warns(UserWarning, match="start anew"):
        other.load_state_dict(saved)
    run = other.state_dict()["run"]
    assert saved["run"]["reference"] is not None
    assert [run[name] for name in ("input", "null", "reference", "num_clusters")] == [None] * 4
    assert run["history"] == saved["run"]["history"]
    assert run["validations"] == saved["run"]["validations"]


@pytest.mark.parametrize("weights_only", [True, False])
def test_the_state_is_plain(weights_only, tmp_path):
    fit(tmp_path, two(), epochs=1)
    states = torch.load(tmp_path / "epoch=0.ckpt", weights_only=weights_only)["callbacks"]
    ours = {key for key in states if key.startswith("MIBoundCallback")}
    assert len(ours) == 2


def test_a_state_of_the_last_development_version_continues(tmp_path):
    """Written by the build cfd233d after two epochs on the utterances of `fit`'s first 100, with ``channels="own"``."""
    state = torch.load(Path(__file__).parent.parent / "data/callback_state_cfd233d.pt", weights_only=True)
    assert state["settings"]["channels"] == "own"
    one = MIBoundCallback(num_clusters=8, sample_rate=SAMPLE_RATE, pooling="mean")
    with callback_warnings() as said:
        one.load_state_dict(state)
    assert not said
    assert [validation.epoch for validation in one.history] == [0, 1]
    assert one.history.best.primary.bound == pytest.approx(state["memory"]["best"]["bound"], abs=1e-4)
    assert one.state_dict()["run"]["history"] == state["memory"]["history"]
    fit(tmp_path, [one], epochs=1)  # a new run forgets it
    assert [validation.epoch for validation in one.history] == [0]


def test_gain_is_measured_against_the_best_of_the_last_development_version():
    state = torch.load(Path(__file__).parent.parent / "data/callback_state_cfd233d.pt", weights_only=True)
    state["memory"]["best"]["totals"] = state["memory"]["best"]["totals"] - 1.0  # one nat less in every group

    class Loads(pl.Callback):
        """Restores the state as a resume does, after ``setup``."""

        def on_fit_start(self, trainer, pl_module):
            one.load_state_dict(state)

    one = MIBoundCallback(num_clusters=8, sample_rate=SAMPLE_RATE, pooling="mean")
    run = run_callback(data=utterances(100), fn="fit", callback=one, callbacks=[Loads()])
    before = state["memory"]["best"]["bound"] - 1.0
    assert run.logged["mi_bound/gain"] == pytest.approx(run.bound - before, abs=0.05)


class LosesRows(TinySpeechModel):
    """NaN in a few embeddings from the second epoch on, in place of rows at the edge of the rule for K."""

    def forward(self, x):
        z = super().forward(x)
        validates = self.trainer.validating or self.trainer.evaluating
        return z.index_fill(0, torch.tensor([0]), torch.nan) if validates and self.current_epoch else z

    def validation_step(self, batch, batch_idx):
        pass


@pytest.mark.parametrize(("wanted", "used"), [(None, 8), (32, 32)])
def test_number_of_clusters_is_held_for_the_run_and_across_a_resume(tmp_path, wanted, used):
    """By default 256 pairs are eight clusters, and 252 four; 32 clusters need 256 pairs. Bounds of different K cannot
    be compared."""
    x = utterances(256)
    saves = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    settings = {"max_epochs": 2, "enable_checkpointing": True}
    run = run_callback(LosesRows(), loader(x, 64), "fit", trainer=settings, callbacks=[saves], num_clusters=wanted)
    assert [epoch["mi_bound/pairs"] for epoch in run.epochs] == [256, 252]
    assert {round(math.exp(epoch["mi_bound/ceiling"])) for epoch in run.epochs} == {used}
    settings = {"max_epochs": 3}
    path = tmp_path / "epoch=1.ckpt"
    again = run_callback(LosesRows(), loader(x, 64), "fit", trainer=settings, ckpt_path=path, num_clusters=wanted)
    assert [round(math.exp(epoch["mi_bound/ceiling"])) for epoch in again.epochs] == [used]
    fresh = run_callback(LosesRows(), loader(x[:252], 64), "fit", num_clusters=wanted)
    assert round(math.exp(fresh.logged["mi_bound/ceiling"])) == used // 2
