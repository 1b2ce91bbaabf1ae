"""The callback on several processes: what one process would say, on each of them."""

import atexit
import json

import lightning.pytorch as pl
import pytest
import torch
from support import SAMPLE_RATE, TinySpeechModel, loader, quiet_trainer, utterances

from lightning_mi import MIBoundCallback


class Report(pl.Callback):
    """Writes what this process has logged."""

    def __init__(self, folder):
        self.folder = folder

    def on_validation_end(self, trainer, pl_module):
        logged = {name: value.item() for name, value in trainer.callback_metrics.items()}
        (self.folder / f"{trainer.global_rank}.json").write_text(json.dumps(logged))


class OneThread(pl.Callback):
    """Two cores, up to three processes; gloo's threads want to be told before the interpreter ends."""

    def setup(self, trainer, pl_module, stage):
        torch.set_num_threads(1)
        if torch.distributed.is_initialized():
            atexit.register(torch.distributed.destroy_process_group)


class FailsOnOne(TinySpeechModel):
    """Encoding fails on the second process only."""

    def forward(self, x):
        if torch.distributed.is_initialized() and torch.distributed.get_rank() == 1:
            raise RuntimeError("lost a cable")
        return super().forward(x)

    def validation_step(self, batch, batch_idx):
        pass


def validate(folder, processes, x, module=None, **kwargs):
    """What each process logged in one validation epoch over the rows of ``x``."""
    folder.mkdir()
    one = MIBoundCallback(**({"num_clusters": 8, "sample_rate": SAMPLE_RATE} | kwargs))
    several = {"devices": processes, "strategy": "ddp_spawn"} if processes > 1 else {}
    trainer = quiet_trainer(callbacks=[OneThread(), one, Report(folder)], **several)
    torch.manual_seed(0)
    trainer.validate(TinySpeechModel() if module is None else module, loader(x, batch_size=16), verbose=False)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(processes)]


def assert_equal(found, expected):
    for logged in found:
        assert logged.keys() == expected.keys()
        for name in logged.keys() - {"mi_bound/seconds", "val/loss"}:
            assert logged[name] == pytest.approx(expected[name], abs=1e-5), name


@pytest.mark.parametrize("processes", [2, 3])
def test_equals_one_process(tmp_path, processes):
    x = utterances(101)  # the sampler adds copies to make the processes even
    kwargs = {"gap_seconds": ["near", "far"], "layers": ["rnn", "head"], "embed": "predict"}
    (one,) = validate(tmp_path / "one", 1, x, **kwargs)
    assert one["mi_bound/pairs"] == 101
    assert_equal(validate(tmp_path / "several", processes, x, **kwargs), one)


def test_more_utterances_than_pairs(tmp_path):
    x = utterances(150)
    (one,) = validate(tmp_path / "one", 1, x, max_pairs=90)
    assert one["mi_bound/pairs"] == 90
    assert_equal(validate(tmp_path / "two", 2, x, max_pairs=90), one)


def test_a_process_without_a_usable_utterance(tmp_path):
    x = utterances(200)
    x[1::2, 500:] = 0  # every second one goes to the second process, and is too short
    (one,) = validate(tmp_path / "one", 1, x)
    assert one["mi_bound/skipped"] == 100
    assert_equal(validate(tmp_path / "two", 2, x), one)


def test_a_failure_on_one_process_is_no_hang_and_no_value(tmp_path):
    for logged in validate(tmp_path / "two", 2, utterances(100), module=FailsOnOne()):
        assert "val/mi_bound" not in logged
