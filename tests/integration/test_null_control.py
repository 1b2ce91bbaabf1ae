"""The null control in Lightning runs: it fires on copies, is silent without them, and changes nothing else. On several
processes it is checked with all other values, in test_distributed.py.
"""

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_mi import MIBoundCallback
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


def test_a_few_copies_are_no_warning(monkeypatch):
    told = []
    monkeypatch.setattr("lightning_mi.reporting.messages.rank_zero_info", told.append)
    logged, said = validate(torch.cat([CLEAN, copies(CLEAN[:6])]))
    assert logged["mi_bound/null"] <= 3 * logged["mi_bound/null_stderr"]
    assert not said
    assert any("12 of 206 utterances share sound" in str(message) for message in told)


def test_the_bound_is_what_it_is_without_the_control():
    logged, _ = validate(DOUBLED)
    plain, said = validate(DOUBLED, null_control=False)
    assert not said
    assert "mi_bound/null" not in plain
    for name in plain.keys() - {"mi_bound/seconds"}:
        assert logged[name] == plain[name]


@pytest.mark.parametrize("when", [1, 3])
def test_a_failing_fingerprint_does_not_take_the_bound_with_it(monkeypatch, when):
    from lightning_mi.controls.fingerprints import fingerprint

    calls = []

    def fails_later(*arguments):
        calls.append(1)
        if len(calls) == when:
            raise RuntimeError("no such transform here")
        return fingerprint(*arguments)

    monkeypatch.setattr("lightning_mi.controls.null_control.fingerprint", fails_later)
    logged, (said,) = validate(DOUBLED)
    plain, _ = validate(DOUBLED, null_control=False)
    assert len(calls) == when
    assert logged["val/mi_bound"] == plain["val/mi_bound"]
    assert "mi_bound/null" not in logged
    assert "logs no null: RuntimeError: no such transform here" in said


def test_a_failing_fingerprint_and_pairs_that_are_dropped(monkeypatch):
    """What was kept for the null until then is not taken for the numbers of all pairs."""
    from lightning_mi.controls.fingerprints import fingerprint

    class Broken(TinySpeechModel):
        def forward(self, x):
            z = super().forward(x)
            return torch.where(x.square().mean(dim=1)[:, None, None] > LOUD, torch.nan, z)

    calls = []

    def fails_later(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("no such transform here")
        return fingerprint(*arguments)

    monkeypatch.setattr("lightning_mi.controls.null_control.fingerprint", fails_later)
    arguments = {"pooling": "boundary", "channels": "shared"}
    logged, _ = validate(DOUBLED, module=Broken(), **arguments)
    torch.manual_seed(0)
    plain, _ = validate(DOUBLED, module=Broken(), null_control=False, **arguments)
    assert 0 < logged["mi_bound/skipped"] == plain["mi_bound/skipped"]
    assert logged["mi_bound/pairs"] == plain["mi_bound/pairs"] > 50
    assert "mi_bound/null" not in logged


def test_a_failing_estimate_does_not_take_the_bound_with_it(monkeypatch):
    def fails(*arguments, **more):
        raise ValueError("not today")

    monkeypatch.setattr("lightning_mi.metrics.bounds.null_bound", fails)
    logged, (said,) = validate(CLEAN)
    assert logged["val/mi_bound"] > 0
    assert "logs no null: ValueError: not today" in said


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


def test_measured_and_warned_of_once_a_run_and_remembered_in_its_checkpoints(tmp_path, monkeypatch):
    from lightning_mi.estimator.shuffled_bound import null_bound

    measured = []
    monkeypatch.setattr(
        "lightning_mi.metrics.bounds.null_bound", lambda **rows: measured.append(1) or null_bound(**rows)
    )
    one = callback()
    seen, said = fit(tmp_path, 3, one)
    assert len(measured) == len(said) == 1
    assert seen == [seen[0]] * 3
    assert seen[0] > 0.05
    ((position, summary),) = one.history.references()["null"]
    assert position == 0
    assert summary.bound == pytest.approx(seen[0], abs=1e-4)
    resumed = callback()
    again, said = fit(tmp_path, 5, resumed, ckpt_path=tmp_path / "epoch=2.ckpt")
    assert again == [seen[0]] * 2
    assert len(measured) == 1
    assert not said
    assert resumed.history.references().keys() == {"null"}


def test_a_leak_is_warned_of_in_a_run_after_one_whose_null_control_failed(monkeypatch):
    """The callback of a second run says what that of the first could not measure."""
    from lightning_mi.controls.fingerprints import fingerprint

    broken = []

    def fails_first(*arguments):
        if not broken:
            broken.append(1)
            raise RuntimeError("no such transform here")
        return fingerprint(*arguments)

    monkeypatch.setattr("lightning_mi.controls.null_control.fingerprint", fails_first)
    one = callback()
    first, second = (run_callback(TinySpeechModel(), DOUBLED, callback=one) for _ in range(2))
    assert "mi_bound/null" not in first.logged
    assert any("logs no null: RuntimeError" in message for message in first.warnings)
    assert second.logged["mi_bound/null"] > 4 * second.logged["mi_bound/null_stderr"]
    assert any("should be 0" in message for message in second.warnings)
