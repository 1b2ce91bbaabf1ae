"""A SIGTERM (or Ctrl-C) in the middle of the estimates ends the run there, on every process."""

import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import pytorch_lightning as old
from lightning.pytorch.trainer.connectors.signal_connector import _HandlersCompose
from lightning.pytorch.utilities.exceptions import SIGTERMException

from lightning_mi.validation.estimates import SharedWork
from lightning_mi.validation.termination import Terminated, held_sigterm, interruptible, sigterm_has_come

# The estimates of rank 0 never end by themselves, and the first of them sends the signal.
SCRIPT = """
import os, signal, sys
import {package} as pl
from lightning_mi import MIBoundCallback
from lightning_mi.metrics.bounds import MIBound
from tests.helpers.models import loader
from tests.helpers.speech import utterances
from tests.integration.test_pytorch_lightning import module_of

estimate = MIBound.estimate
def endless(self):
    if int(os.environ.get("LOCAL_RANK", 0)) > 0:
        return estimate(self)
    os.kill(os.getpid(), signal.{signal})
    while True:
        estimate(self)
MIBound.estimate = endless

class Say(pl.Callback):
    def on_exception(self, trainer, module, exception):
        print("ended by", type(exception).__module__, type(exception).__name__, trainer.global_rank, flush=True)

callback = MIBoundCallback(num_clusters=8, sample_rate=1000)
trainer = pl.Trainer(
    accelerator="cpu", devices={devices}, strategy="{strategy}", max_epochs=2, logger=False,
    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, callbacks=[Say(), callback],
)
getattr(trainer, "{fn}")(module_of(pl), *[loader(utterances(64))] * (1 + ("{fn}" == "fit")))
print("went on")
"""


def ends(folder, package="lightning.pytorch", name="SIGTERM", devices=1, fn="fit"):
    """How a run ends on each process, as text."""
    strategy = "ddp" if devices > 1 else "auto"
    script = folder / "script.py"
    code = SCRIPT.format(package=package, signal=name, devices=devices, strategy=strategy, fn=fn)
    script.write_text(code)
    path = os.pathsep.join([os.getcwd(), *sys.path])
    run = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )
    assert "went on" not in run.stdout
    lines = [line.partition("ended by ")[2] for line in run.stdout.splitlines() if "ended by" in line]
    assert lines, run.stderr[-3000:]
    return sorted(lines)


@pytest.mark.parametrize(
    "package", ["lightning.pytorch", pytest.param("pytorch_lightning", marks=pytest.mark.slow)]
)
def test_a_sigterm_ends_the_run(tmp_path, package):
    assert ends(tmp_path, package) == [f"{package}.utilities.exceptions SIGTERMException 0"]


@pytest.mark.slow
def test_a_validation_of_its_own_and_ctrl_c(tmp_path):
    assert ends(tmp_path, fn="validate") == ["lightning.pytorch.utilities.exceptions SIGTERMException 0"]
    assert ends(tmp_path, name="SIGINT") == ["builtins KeyboardInterrupt 0"]


@pytest.mark.slow
def test_a_sigterm_to_one_of_two_processes_ends_both(tmp_path):
    found = ends(tmp_path, devices=2)
    assert [line.rpartition(" ")[2] for line in found] == ["0", "1"]
    assert all("SIGTERMException" in line for line in found)


@pytest.fixture
def calls():
    """What a handler of Lightning's has been called with; it is in place during the test."""
    found = []
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, _HandlersCompose([lambda *arguments: found.append(arguments)]))
    yield found
    signal.signal(signal.SIGTERM, before)


class Metric:
    """Its estimate sends ``signals``."""

    def __init__(self, signals):
        self.signals = signals
        self.synced = False

    def sync(self):
        self.synced = True

    def estimate(self):
        for number in self.signals:
            os.kill(os.getpid(), number)
        return "estimate"


def test_the_handler_is_called_once_when_the_body_ends_and_not_before(calls):
    metrics = {"a": Metric([]), "b": Metric([signal.SIGTERM]), "c": Metric([])}
    trainer = SimpleNamespace(received_sigterm=True)
    with pytest.raises(SIGTERMException), held_sigterm(trainer):
        try:
            SharedWork().compute({key: lambda key=key: metrics[key] for key in metrics})
        finally:
            assert calls == []
    assert [number for number, _ in calls] == [signal.SIGTERM]
    assert calls[0][1] is not None
    assert metrics["c"].synced  # as the other processes expect


def test_one_that_comes_elsewhere_is_held_until_an_interruptible_part(calls):
    with held_sigterm(None):
        os.kill(os.getpid(), signal.SIGTERM)
        assert sigterm_has_come()
        assert calls == []
        with pytest.raises(Terminated), interruptible():
            raise AssertionError("not reached")
    assert len(calls) == 1
    assert not sigterm_has_come()
    os.kill(os.getpid(), signal.SIGTERM)  # Lightning's own again
    assert len(calls) == 2


def test_another_handler_stays_in_place():
    found = []
    before = signal.signal(signal.SIGTERM, lambda *arguments: found.append(arguments))
    try:
        with held_sigterm(None), interruptible():
            os.kill(os.getpid(), signal.SIGTERM)
            assert len(found) == 1
    finally:
        signal.signal(signal.SIGTERM, before)


def test_packages_of_trainers():
    from lightning_mi.embedding.lightning_packages import package_of, sigterm_exception

    for package in (pl, old):
        made = type("Mine", (package.Trainer,), {})(logger=False, accelerator="cpu", enable_progress_bar=False)
        assert package_of(made) == package.__name__
        assert isinstance(sigterm_exception(made), SystemExit)
