"""The callback on several processes: what one process would say, on each of them."""

import time

import lightning.pytorch as pl
import pytest
import torch
from torch.multiprocessing import ProcessRaisedException

from lightning_mi import MIBoundCallback, mi_bound
from tests.helpers.distributed import in_processes
from tests.helpers.models import TinySpeechModel, loader, quiet_trainer
from tests.helpers.run_callback import callback_warnings
from tests.helpers.speech import SAMPLE_RATE, chords, copies, syllables, utterances


def rank():
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


class Failing(TinySpeechModel):
    """Raises ``error`` in ``forward`` on the processes ``where``, but not in its own validation step."""

    def __init__(self, error, where):
        super().__init__()
        self.error, self.where = error, where

    def forward(self, x):
        if rank() in self.where:
            raise self.error
        return super().forward(x)

    def validation_step(self, batch, batch_idx):
        pass


class FailsToValidate(TinySpeechModel):
    """Raises in its own validation step, on the second process only."""

    def validation_step(self, batch, batch_idx):
        if rank() == 1:
            raise RuntimeError("lost a cable")
        super().validation_step(batch, batch_idx)


def with_short_ones(x):
    x = x.clone()
    x[1::2, 500:] = 0  # every second one goes to the second of two processes, and is too short
    return x


SPEAKERS = torch.randint(7, (101,), generator=torch.Generator().manual_seed(0))


def with_speakers(batch):
    # The first utterance of a batch says nothing about the order: the group comes from the samples.
    return batch, torch.full((len(batch),), batch.shape[1]), SPEAKERS[(batch.sum(dim=1).abs() * 1e3).long() % 101]


CASES = {
    # 101 rows: the sampler adds copies to make the processes even
    "copies": (lambda: utterances(101), {}),
    "gaps and layers": (
        lambda: utterances(101),
        {"gap_seconds": ["near", "far"], "layers": ["rnn", "head"], "embed": "predict"},
    ),
    "more utterances than pairs": (lambda: utterances(150), {"max_pairs": 90}),
    "pairs of one utterance, speakers": (
        lambda: utterances(101),
        {"pairs_per_utterance": 3, "segment_seconds": 0.25, "batch_to_waveforms": with_speakers},
    ),
    "a process without a usable utterance": (lambda: with_short_ones(utterances(200)), {}),
    "feature sequences": (lambda: utterances(101).unfold(1, 50, 50), {"time_dim": 1, "sample_rate": 20}),
    "channels of their own": (lambda: utterances(101), {"channels": "independent"}),
    "views": (lambda: syllables(101), {"preset": "content", "num_clusters": 4}),
    "near copies, of which the null tells": (
        lambda: torch.cat([chords(200, seed=2), copies(chords(200, seed=2))]),
        {"num_clusters": 16},
    ),
    "fewer utterances than processes need": (lambda: utterances(5), {}),
    # Two for 301, four for the half of them that each process has.
    "pairs of one utterance, chosen": (lambda: utterances(301), {"max_pairs": 602}),
}


def validate(x, module=None, processes=1, **kwargs):
    """What this process logged in one validation epoch over the rows of ``x``, what was said and estimated."""
    estimated = []

    class Watched(MIBoundCallback):
        def on_validation_epoch_end(self, trainer, pl_module):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(
                    "lightning_mi.metrics.bounds.mi_bound",
                    lambda *args, **kw: estimated.append(1) or mi_bound(*args, **kw),
                )
                super().on_validation_epoch_end(trainer, pl_module)

    one = Watched(**({"num_clusters": 8, "sample_rate": SAMPLE_RATE} | kwargs))
    several = {"devices": processes, "strategy": "ddp"} if processes > 1 else {}
    torch.manual_seed(0)
    module = TinySpeechModel() if module is None else module
    with callback_warnings("Watched") as said:
        trainer = quiet_trainer(callbacks=[one], **several)
        trainer.validate(module, loader(x, batch_size=16), verbose=False)
    logged = {name: value.item() for name, value in trainer.callback_metrics.items() if "mi_bound" in name}
    return logged, said, len(estimated)


def all_cases(processes):
    return {name: validate(data(), processes=processes, **kwargs) for name, (data, kwargs) in CASES.items()}


@pytest.mark.parametrize("processes", [2, 3])
def test_equals_one_process(tmp_path, processes):
    alone = all_cases(1)
    assert alone["copies"][0]["mi_bound/pairs"] == 303
    assert alone["pairs of one utterance, chosen"][0]["mi_bound/pairs"] == 602
    assert alone["more utterances than pairs"][0]["mi_bound/pairs"] == 90
    assert alone["a process without a usable utterance"][0]["mi_bound/skipped"] == 100
    assert alone["pairs of one utterance, speakers"][0]["mi_bound/pairs"] == 303
    logged, said, _ = alone["near copies, of which the null tells"]
    assert logged["mi_bound/null"] > 3 * logged["mi_bound/null_stderr"]
    assert any("should be 0" in message for message in said)
    together = in_processes(processes, tmp_path, all_cases, processes)
    for name, (expected, _, wanted) in alone.items():
        for found in together:
            logged = found[name][0]
            assert logged.keys() == expected.keys()
            for value in logged.keys() - {"mi_bound/seconds"}:
                assert logged[value] == pytest.approx(expected[value], abs=1e-5), (name, value)
            assert logged == together[0][name][0]  # every process says the same, to the last bit
        # The work is shared out: none is done twice, and none has two more than another.
        shares = [found[name][2] for found in together]
        assert sum(shares) == wanted
        assert max(shares) - min(shares) <= 1


FAULTS = {
    "on all": (Failing(RuntimeError("out of something"), where=(0, 1)), "out of something"),
    "bad input on one": (Failing(ValueError("odd file"), where=(1,)), "odd file"),
    "out of memory on one": (Failing(torch.OutOfMemoryError("2 GiB more"), where=(1,)), "2 GiB more"),
}


def all_faults():
    return {name: validate(utterances(100), module, 2) for name, (module, _) in FAULTS.items()}


def test_bad_input_is_no_hang_and_no_value(tmp_path):
    found = in_processes(2, tmp_path, all_faults)
    for name, (_, message) in FAULTS.items():
        for logged, _, _ in (each[name] for each in found):
            assert not any("mi_bound" in key for key in logged)
        (said,) = found[0][name][1]
        assert message in said


def validate_or_fail(module):
    return validate(utterances(100), module, 2)


@pytest.mark.parametrize(
    "module", [FailsToValidate(), Failing(RuntimeError("lost a cable"), where=(1,))], ids=["its own step", "ours"]
)
def test_an_exception_on_one_process_ends_the_run_with_it(tmp_path, module):
    start = time.monotonic()
    with pytest.raises(ProcessRaisedException, match="lost a cable"):
        in_processes(2, tmp_path, validate_or_fail, module)
    assert time.monotonic() - start < 120  # gloo would wait for half an hour


def fit(with_it):
    pl.seed_everything(0, verbose=False)
    callbacks = [MIBoundCallback(num_clusters=4, sample_rate=SAMPLE_RATE)] if with_it else []
    model = TinySpeechModel(dim=8)
    trainer = quiet_trainer(callbacks=callbacks, max_epochs=3, devices=2, strategy="ddp")
    trainer.fit(model, loader(utterances(64), batch_size=8, shuffle=True), loader(utterances(33), batch_size=8))
    return model.state_dict(), torch.get_rng_state(), trainer.callback_metrics


def fit_with_and_without():
    return fit(True), fit(False)


def test_training_is_the_same_with_and_without(tmp_path):
    values = set()
    for with_it, without in in_processes(2, tmp_path, fit_with_and_without):
        assert all(torch.equal(with_it[0][name], without[0][name]) for name in without[0])
        assert torch.equal(with_it[1], without[1])
        assert torch.equal(with_it[2]["val/loss"], without[2]["val/loss"])
        values.add(with_it[2]["val/mi_bound"].item())
    assert len(values) == 1
