"""The input baseline in Lightning runs."""

import sys

import pytest
import torch

from lightning_mi import mi_bound
from lightning_mi.controls import input_baseline
from lightning_mi.controls.input_baseline import log_mel
from lightning_mi.inputs.batches import Waveforms
from lightning_mi.inputs.segments import SegmentSampler, parse_gaps
from tests.helpers.models import TinySpeechModel, loader
from tests.helpers.run_callback import run_callback, validate
from tests.helpers.speech import SAMPLE_RATE, utterances


@pytest.mark.parametrize("pooling", ["mean", "boundary"])
def test_input_baseline_is_the_bound_of_log_mel_frames_measured_once(pooling, monkeypatch):
    x, measured = utterances(200), []
    segments = SegmentSampler(0.5, parse_gaps("near"), SAMPLE_RATE, seed=0)(Waveforms(x, torch.full((200,), 2000)))
    frames = log_mel(segments.samples.flatten(0, 1), SAMPLE_RATE).unflatten(0, (200, 2))
    z = torch.cat([frames.mean(dim=2), frames.std(dim=2, correction=0)], dim=2)
    if pooling == "boundary":  # adjacent frames of the model are compared with adjacent frames
        z = torch.stack([frames[:, 0, -1], frames[:, 1, 0]], dim=1)
    order = segments.keys.argsort()
    reference = mi_bound(z[order, 0], z[order, 1], 8, groups=segments.groups[order])
    count(monkeypatch, lambda windows: measured.append(1))
    settings = {"max_epochs": 3}
    run = run_callback(
        data=x, fn="fit", train=loader(x[:32]), trainer=settings, pooling=pooling, null_control=False
    )
    assert len(measured) == 7  # one call a batch of the first validation
    seen = [epoch["mi_bound/input"] for epoch in run.epochs]
    assert seen == pytest.approx([reference.bound] * 3, abs=1e-5)
    assert reference.bound > 0.1
    assert "mi_bound/input" not in validate(input_baseline=False)[0]


def count(monkeypatch, called):
    """Call ``called`` whenever the mel bands of a batch are made."""
    original = input_baseline.mel_bands

    def counted(*args, **kwargs):
        called(args)
        return original(*args, **kwargs)

    monkeypatch.setattr(input_baseline, "mel_bands", counted)


def test_the_input_baseline_decides_on_no_pair():
    x = utterances(200)
    x[:20] *= 1e25  # finite; their power is not
    logged, said = validate(data=loader(x))
    assert logged["mi_bound/pairs"] == 200
    assert "mi_bound/input" not in logged
    assert any("logs no input" in message for message in said)


def test_without_torchaudio_both_controls_are_the_same(monkeypatch):
    module = TinySpeechModel()
    expected, _ = validate(module)
    for name in {"torchaudio", *(name for name in sys.modules if name.startswith("torchaudio."))}:
        monkeypatch.setitem(sys.modules, name, None)
    logged, said = validate(module)
    for name in expected.keys() - {"mi_bound/seconds"}:
        assert logged[name] == expected[name]
    assert {"mi_bound/input", "mi_bound/null", "mi_bound/null_stderr"} <= logged.keys()
    assert not said


@pytest.mark.parametrize(("failing_calls", "missing"), [((3,), ["input"]), (range(3, 99), ["input", "null"])])
def test_a_failing_control_takes_neither_the_bound_nor_the_other_control(failing_calls, missing, monkeypatch):
    """Log-mel that fails once is the baseline's failure alone; if it always fails, there is no null either."""
    module, calls = TinySpeechModel(), []
    plain, _ = validate(module, input_baseline=False, null_control=False)

    def fails_later(args):
        calls.append(1)
        if len(calls) in failing_calls:
            raise RuntimeError("no such transform here")

    count(monkeypatch, fails_later)
    logged, said = validate(module)
    assert logged["val/mi_bound"] == plain["val/mi_bound"]
    assert [name for name in ("input", "null") if f"mi_bound/{name}" not in logged] == missing
    for name, message in zip(missing, said, strict=True):
        assert f"logs no {name}: RuntimeError: no such transform here" in message
