"""Models, data and numbers of pairs that cannot be used: one warning, no value, and training goes on."""

import csv
import math

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from tests.helpers.models import TinySpeechModel, loader, quiet_trainer
from tests.helpers.run_callback import Recorder, mi_callback, run_callback, validate
from tests.helpers.speech import utterances


def test_any_exception_is_raised_in_the_sanity_check_with_advice():
    trainer = quiet_trainer(callbacks=[mi_callback()])
    with pytest.raises(ValueError, match=r"out of something(.|\n)*`embed=`") as raised:
        trainer.fit(Broken(raises), loader(utterances(32)), loader(utterances(64)))
    assert isinstance(raised.value.__cause__, RuntimeError)


class Broken(TinySpeechModel):
    """Its embeddings go through ``damage``."""

    def __init__(self, damage):
        super().__init__()
        self.damage = damage

    def forward(self, x):
        return self.damage(super().forward(x))

    def validation_step(self, batch, batch_idx):
        pass


def nan_in_some(z):
    z = z.clone()
    z[::10] = float("nan")  # an anchor in every fifth pair
    return z


def infinity_in_one(z):
    z = z.clone()
    z[1, 0, 3] = float("inf")
    return z


def outlier_of_1e8(z):
    z = z.clone()
    if len(z) == 2 * 8:  # the last batch, and no other
        z[4] = 1e8
    return z


STATES = {
    "zero": lambda z: torch.zeros_like(z),
    "constant": lambda z: torch.full_like(z, 3.0),
    "constant but for rounding": lambda z: 3.0 + 1e-7 * z,
    "rank one": lambda z: z.sum(dim=-1, keepdim=True).expand_as(z),
    "exploding": lambda z: z * 1e6,
    "vanishing": lambda z: z * 1e-6,
    "vanishing further": lambda z: z * 1e-30,
    "NaN in some": nan_in_some,
    "infinity in some": infinity_in_one,
    "an outlier of 1e8": outlier_of_1e8,
}


@pytest.mark.parametrize("state", STATES)
def test_models_in_every_state_have_a_finite_value(state):
    logged, said = validate(Broken(STATES[state]))
    assert all(math.isfinite(value) for value in logged.values())
    lost = {"NaN in some": 44, "infinity in some": 7}.get(state, 0)  # in 6 batches of 32 and one of 8
    assert logged["mi_bound/pairs"] == 200 - lost
    assert logged["mi_bound/skipped"] == lost
    assert len(said) == bool(lost)
    if state in ("zero", "constant", "constant but for rounding"):
        assert logged["val/mi_bound"] == 0
        assert logged["mi_bound/active_clusters"] == 1
    else:
        healthy, _ = validate(Broken(lambda z: z))
        share = 0.1 if state == "rank one" else 0.75
        assert logged["val/mi_bound"] > share * healthy["val/mi_bound"] > 0.1


def raises(z):
    raise RuntimeError("out of something")


@pytest.mark.parametrize(
    ("module", "data", "said"),
    [
        (lambda: Broken(lambda z: z * float("nan")), None, "200 with NaN or infinity"),
        (lambda: Broken(raises), None, "RuntimeError: out of something"),
        (lambda: Broken(lambda z: z[:5]), None, "Cannot tell which part of the output"),
        (lambda: Broken(lambda z: z[:, :0]), None, "Cannot tell which part of the output"),
        (lambda: Broken(lambda z: z[..., : 3 + (len(z) == 64)]), None, "the same shape in all batches"),
        (None, lambda: utterances(100, seconds=0.9), "0 usable pairs of segments, 100 utterances left out"),
        (None, lambda: torch.zeros(100, 2000), "100 too short"),
        (None, lambda: utterances(1), "1 usable pairs"),
        (None, lambda: utterances(3).repeat(10, 1), "3 usable pairs"),
    ],
)
def test_nothing_usable_is_one_warning_and_no_value(module, data, said):
    run = run_callback(
        TinySpeechModel() if module is None else Quiet(module()),
        utterances(200) if data is None else data(),
        "fit",
        train=utterances(32),
        trainer={"max_epochs": 2, "num_sanity_val_steps": 0},
    )
    (message,) = run.warnings
    assert said in message
    assert not any("mi_bound" in name for name in run.logged)


class Recovers(TinySpeechModel):
    """Its embeddings are NaN in the first and the fourth epoch."""

    def forward(self, x):
        nan = self.trainer.validating or self.trainer.evaluating
        return super().forward(x) * (float("nan") if nan and self.current_epoch in (0, 3) else 1.0)

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max")
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val/mi_bound"}}


def test_monitors_survive_an_epoch_without_a_value(tmp_path):
    logger = CSVLogger(tmp_path)
    saves = ModelCheckpoint(
        tmp_path / "saved", filename="{epoch}", monitor="val/mi_bound", mode="max", save_top_k=4
    )
    stopping = EarlyStopping("val/mi_bound", mode="max", patience=5, strict=True)
    trainer = quiet_trainer(
        callbacks=[mi_callback(), saves, stopping], max_epochs=6, enable_checkpointing=True, logger=logger
    )
    with pytest.warns(UserWarning, match=r"logs no value: 0 usable pairs.*200 with NaN") as caught:
        trainer.fit(Recovers(), loader(utterances(64, seed=1)), loader(utterances(200)))
    assert sum("logs no value" in str(w.message) for w in caught) == 1
    assert trainer.current_epoch == 6
    scores = {path.split("epoch=")[1]: score.item() for path, score in saves.best_k_models.items()}
    assert scores.keys() == {f"{epoch}.ckpt" for epoch in (1, 2, 4, 5)}  # never the broken ones
    assert min(scores.values()) > 0.1
    logger.finalize("success")
    rows = list(csv.DictReader((tmp_path / "lightning_logs/version_0/metrics.csv").open()))
    assert [int(row["epoch"]) for row in rows if row.get("val/mi_bound")] == [1, 2, 4, 5]  # nothing was logged


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("monitor", ["mi_bound/near_minus_far", "mi_bound/gain", "mi_bound/layers/head/bound"])
def test_monitors_of_other_names_survive_too(monitor, strict, tmp_path):
    stopping = EarlyStopping(monitor, mode="max", patience=5, strict=strict)
    saves = ModelCheckpoint(tmp_path, filename="{epoch}", monitor=monitor, mode="max", save_top_k=1)
    callback = mi_callback(gap_seconds=["near", "far"], layers=["rnn", "head"], embed=_head)
    recorder = Recorder(callback)
    trainer = quiet_trainer(
        callbacks=[callback, stopping, saves, recorder], max_epochs=6, enable_checkpointing=True
    )
    with pytest.warns(UserWarning, match=r"logs no value: 0 usable pairs"):
        trainer.fit(Recovers(), loader(utterances(64, seed=1)), loader(utterances(200)))
    assert trainer.current_epoch == 6
    values = [epoch[monitor] for epoch in recorder.epochs]
    lowest = 0.0 if monitor.endswith("bound") else -math.log(8)
    assert values[0] == values[3] == pytest.approx(lowest)  # not the last epoch's
    assert min(values[2], values[4]) > lowest
    assert saves.best_model_path[-6] not in "03"


def test_a_difference_that_is_not_logged_is_no_monitor():
    stopping = EarlyStopping("mi_bound/content", mode="max")
    with pytest.raises(RuntimeError, match="mi_bound/content"), pytest.warns(UserWarning, match="no value"):
        quiet_trainer(callbacks=[mi_callback(), stopping], max_epochs=2).fit(
            Recovers(), loader(utterances(64, seed=1)), loader(utterances(200))
        )


def _head(module, x):
    return module.head(module(x))


@pytest.mark.parametrize(
    ("data", "arguments"),
    [
        (utterances(1, seconds=9.0), {"pairs_per_utterance": 5}),
        (
            utterances(5),
            {"batch_to_waveforms": lambda x: (x, torch.full((len(x),), 2000), torch.full((len(x),), 7))},
        ),
    ],
)
def test_pairs_of_one_group_only_are_a_warning_and_no_value(data, arguments):
    logged, said = validate(data=loader(data), **arguments)
    assert not any("mi_bound" in name for name in logged)
    (message,) = said
    assert "all 5 usable pairs of segments are of one group" in message


@pytest.mark.parametrize(("count", "clusters"), [(4, 1), (10, 1), (16, 2), (40, 4)])
def test_few_pairs_lower_the_number_of_clusters(count, clusters):
    logged, said = validate(data=loader(utterances(count)))
    assert logged["mi_bound/ceiling"] == pytest.approx(math.log(clusters))
    assert 0 <= logged["val/mi_bound"] <= math.log(clusters)
    assert len(said) == 1
    assert f"lowers `num_clusters` from 8 to {clusters}: {count} pairs" in said[0]


@pytest.mark.parametrize(("count", "clusters"), [(4, 1), (16, 2), (127, 4), (255, 4), (256, 8)])
def test_the_number_of_clusters_suits_the_pairs(count, clusters):
    logged, said = validate(data=loader(utterances(count)), num_clusters=None)
    assert logged["mi_bound/pairs"] == count
    assert logged["mi_bound/ceiling"] == pytest.approx(math.log(clusters))
    assert not said  # nobody has asked for more


class Quiet(TinySpeechModel):
    """Trains a plain model, and is embedded by a broken one."""

    def __init__(self, broken):
        super().__init__()
        self.broken = broken

    def forward(self, x):
        return self.broken(x) if self.trainer.validating or self.trainer.evaluating else super().forward(x)

    def validation_step(self, batch, batch_idx):
        pass


@pytest.mark.parametrize("channels", ["shared", "independent"])
def test_skipped_utterances_are_warned_of_once(channels):
    x = utterances(200)
    x[:20] = 0
    x[20:50, 900:] = 0
    run = run_callback(data=x, fn="fit", train=utterances(32), trainer={"max_epochs": 3}, channels=channels)
    (said,) = run.warnings
    assert "leaves out 50 utterances: 50 too short, 0 silent" in said
    assert run.logged["mi_bound/skipped"] == 50
    assert run.logged["mi_bound/pairs"] == 150
