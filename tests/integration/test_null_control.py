"""The null control in Lightning runs: it fires on copies, is silent without them, and changes nothing else. On several
processes it is checked with all other values, in test_distributed.py.
"""

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_mi import MIBoundCallback
from lightning_mi.controls import input_baseline
from lightning_mi.inputs.batches import Waveforms
from tests.helpers.models import TinySpeechModel, loader
from tests.helpers.run_callback import run_callback
from tests.helpers.speech import SAMPLE_RATE, chords, copies

COUNT = 200
CLEAN = chords(COUNT, seed=2)
DOUBLED = torch.cat([CLEAN, copies(CLEAN)])
LOUD = DOUBLED.square().mean(dim=1).quantile(0.9)


def callback(**arguments):
    settings = {"num_clusters": 16, "sample_rate": SAMPLE_RATE, "input_baseline": False}
    return MIBoundCallback(**(settings | arguments))


def validate(x, batch_size=32, module=None, **arguments):
    """What was logged, and what the callback warned of."""
    torch.manual_seed(0)
    run = run_callback(module, loader(x, batch_size=batch_size), callback=callback(**arguments))
    return run.logged, run.warnings


def new(model):
    """The same weights each time, as of the model that `validate` makes."""
    torch.manual_seed(0)
    return model()


def of_original(batch):
    """The same group for an utterance and its copy, found by the loudest tone."""
    tones = torch.fft.rfft(batch[:, :1000]).abs()
    loudest = tones.topk(8, dim=1).indices.sort(dim=1).values
    return Waveforms(batch, None, (loudest * 500 ** torch.arange(7, -1, -1)[None] % (2**61 - 1)).sum(dim=1))


def test_silent_without_copies():
    logged, said = validate(CLEAN)
    assert logged["mi_bound/null"] <= 3 * logged["mi_bound/null_stderr"]
    assert logged["mi_bound/null"] < 0.01
    assert not said


def test_fires_on_utterances_that_were_duplicated():
    logged, (said,) = validate(DOUBLED)
    assert logged["mi_bound/pairs"] == 2 * COUNT
    assert logged["mi_bound/null"] > 4 * logged["mi_bound/null_stderr"] > 0
    assert f"mi_bound/null is {logged['mi_bound/null']:.3f} ± {logged['mi_bound/null_stderr']:.3f} nats" in said
    assert f"{2 * COUNT} of {2 * COUNT} utterances share sound with one of another group" in said
    for cause in ("duplicated utterances", "leaked padding", "a group key that is too fine"):
        assert cause in said


def test_copies_are_seen_whatever_the_model_hears():
    class Deaf(TinySpeechModel):
        def forward(self, x):
            return 0 * super().forward(x)

    logged, _ = validate(DOUBLED)
    again, (said,) = validate(DOUBLED, module=Deaf())
    assert again["val/mi_bound"] == 0
    assert again["mi_bound/null"] == logged["mi_bound/null"]
    assert "should be 0" in said
    alone, _ = validate(DOUBLED, module=Deaf(), input_baseline=True, pooling="boundary", channels="independent")
    assert alone["mi_bound/null"] > 4 * alone["mi_bound/null_stderr"]


def test_silent_where_groups_keep_copies_together():
    logged, said = validate(DOUBLED, batch_to_waveforms=of_original)
    assert logged["mi_bound/null"] <= 3 * logged["mi_bound/null_stderr"]
    assert not said


def test_exact_copies_are_one_utterance():
    logged, said = validate(torch.cat([CLEAN, CLEAN]))
    once, _ = validate(CLEAN)
    assert not said
    for name in ("mi_bound/pairs", "mi_bound/null", "val/mi_bound"):
        assert logged[name] == pytest.approx(once[name], abs=1e-5)


def test_a_few_copies_are_no_warning(caplog):
    logged, said = validate(torch.cat([CLEAN, copies(CLEAN[:6])]))
    assert logged["mi_bound/null"] <= 3 * logged["mi_bound/null_stderr"]
    assert not said
    assert "12 of 206 utterances share sound" in caplog.text


def test_the_bound_is_what_it_is_without_the_control():
    logged, _ = validate(DOUBLED)
    plain, said = validate(DOUBLED, null_control=False)
    assert not said
    assert "mi_bound/null" not in plain
    for name in plain.keys() - {"mi_bound/seconds"}:
        assert logged[name] == plain[name]


# What each stage of the control calls once a batch, and the callback's other parts do not (there is no input baseline
# here, and no convolution in the model).
STAGES = {
    "fingerprints": (torch.nn.functional, "conv1d"),
    "log-mel statistics": (input_baseline, "mel_bands"),
}


def fail_at(monkeypatch, stage, call):
    """Let the ``call``-th call of a stage raise, counted from 1; the list grows by one at each."""
    module, name = STAGES[stage]
    original, calls = getattr(module, name), []

    def fails_once(*args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            raise RuntimeError("no such transform here")
        return original(*args, **kwargs)

    monkeypatch.setattr(module, name, fails_once)
    return calls


@pytest.mark.parametrize("call", [1, 3])
@pytest.mark.parametrize("stage", STAGES)
def test_a_failing_stage_does_not_take_the_bound_with_it(stage, call, monkeypatch):
    plain, _ = validate(DOUBLED, null_control=False)
    calls = fail_at(monkeypatch, stage, call)
    logged, (said,) = validate(DOUBLED)
    assert len(calls) == call  # nothing is measured for it after the failure
    assert logged["val/mi_bound"] == plain["val/mi_bound"]
    assert "mi_bound/null" not in logged
    assert "logs no null: RuntimeError: no such transform here" in said


@pytest.mark.parametrize("stage", STAGES)
def test_a_failing_stage_and_pairs_that_are_dropped(stage, monkeypatch):
    """What was kept for the null until then is not taken for the numbers of all pairs."""

    class Broken(TinySpeechModel):
        def forward(self, x):
            z = super().forward(x)
            return torch.where(x.square().mean(dim=1)[:, None, None] > LOUD, torch.nan, z)

    arguments = {"pooling": "boundary", "channels": "shared"}
    plain, _ = validate(DOUBLED, module=new(Broken), null_control=False, **arguments)
    calls = fail_at(monkeypatch, stage, 2)
    logged, _ = validate(DOUBLED, module=new(Broken), **arguments)
    assert len(calls) == 2
    assert 0 < logged["mi_bound/skipped"] == plain["mi_bound/skipped"]
    assert logged["mi_bound/pairs"] == plain["mi_bound/pairs"] > 50
    assert logged["val/mi_bound"] == plain["val/mi_bound"]
    assert "mi_bound/null" not in logged


def test_a_failing_estimate_does_not_take_the_bound_with_it():
    x = CLEAN.clone()
    x[:20] *= 1e25  # finite; their power is not
    logged, (said,) = validate(x, channels="shared")
    assert logged["mi_bound/pairs"] == COUNT
    assert logged["val/mi_bound"] > 0
    assert "mi_bound/null" not in logged
    assert "logs no null: ValueError: `z_a`" in said


def test_order_and_size_of_batches_do_not_matter():
    logged, _ = validate(DOUBLED)
    order = torch.randperm(2 * COUNT, generator=torch.Generator().manual_seed(0))
    again, _ = validate(DOUBLED[order], batch_size=17)
    for name in ("mi_bound/null", "mi_bound/null_stderr"):
        assert again[name] == pytest.approx(logged[name], abs=1e-5)


def fit(folder, epochs, one, **settings):
    torch.manual_seed(0)
    saves = ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1)
    trainer = {"max_epochs": epochs, "enable_checkpointing": True}
    run = run_callback(
        None, loader(DOUBLED), "fit", one, train=loader(CLEAN[:32]), trainer=trainer, callbacks=[saves], **settings
    )
    return [epoch["mi_bound/null"] for epoch in run.epochs], [
        each for each in run.warnings if "should be 0" in each
    ]


def test_measured_and_warned_of_once_a_run_and_kept_in_its_checkpoints(tmp_path, monkeypatch):
    calls = fail_at(monkeypatch, "fingerprints", call=None)
    one = callback()
    seen, said = fit(tmp_path, 3, one)
    assert len(calls) == 13  # batches of the first validation
    assert len(said) == 1
    assert seen == [seen[0]] * 3
    assert seen[0] > 0.05
    ((position, summary),) = one.history.references()["null"]
    assert position == 0
    assert summary.bound == pytest.approx(seen[0], abs=1e-4)
    resumed = callback()
    again, said = fit(tmp_path, 5, resumed, ckpt_path=tmp_path / "epoch=2.ckpt")
    assert again == [seen[0]] * 2
    assert len(calls) == 13
    assert not said
    assert resumed.history.references().keys() == {"null"}


@pytest.mark.parametrize("stage", STAGES)
def test_a_leak_is_warned_of_after_a_validation_whose_null_control_failed(stage, monkeypatch):
    """In the next epoch of the same run: both warnings are given, and each once."""
    fail_at(monkeypatch, stage, 1)
    settings = {"max_epochs": 3, "num_sanity_val_steps": 0}
    run = run_callback(None, DOUBLED, "fit", callback(), train=CLEAN[:32], trainer=settings)
    assert ["mi_bound/null" in epoch for epoch in run.epochs] == [False, True, True]
    assert sum("logs no null: RuntimeError" in message for message in run.warnings) == 1
    assert sum("should be 0" in message for message in run.warnings) == 1


@pytest.mark.parametrize("stage", STAGES)
def test_a_leak_is_warned_of_in_a_run_after_one_whose_null_control_failed(stage, monkeypatch):
    """The callback of a second run says what that of the first could not measure."""
    fail_at(monkeypatch, stage, 1)
    one = callback()
    first, second = (run_callback(None, DOUBLED, callback=one) for _ in range(2))
    assert "mi_bound/null" not in first.logged
    assert any("logs no null: RuntimeError" in message for message in first.warnings)
    assert second.logged["mi_bound/null"] > 4 * second.logged["mi_bound/null_stderr"]
    assert any("should be 0" in message for message in second.warnings)
