"""The estimates at the end of a validation are told in Lightning's bars, and no bar is no error."""

import re
import sys

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar, TQDMProgressBar

from tests.helpers.models import TinySpeechModel, loader, quiet_trainer
from tests.helpers.run_callback import mi_callback, run_callback
from tests.helpers.speech import utterances

MANY = {
    "gap_seconds": ["near", 0.2, "far"],
    "layers": ["rnn", "head"],
    "labels": lambda batch: torch.arange(len(batch)) % 2,
    "segment_seconds": 0.2,
}
TOTAL = 2 * 2 + 1 + 2 + 2  # layers at two distances, the last layer at the third, labels of layers, controls


class Frames(TinySpeechModel):
    """All layers are in ``forward``."""

    def forward(self, x):
        return self.head(super().forward(x))

    def predict(self, x):
        return self(x)


def told(printed):
    """The numbers of the estimates that were shown, each once, and of how many; ANSI codes may stand between."""
    return list(dict.fromkeys(re.findall(r"mi_bound: estimate (\d+)/(\d+)", printed)))


@pytest.mark.parametrize("fn", ["validate", "test", "fit"])
def test_every_estimate_is_shown_in_the_bar_of_tqdm_and_removed(fn, capsys):
    shown = {"trainer": {"enable_progress_bar": True}, "callbacks": [TQDMProgressBar()]}
    run_callback(Frames(), utterances(60), fn, num_clusters=4, **shown, **MANY)
    printed = capsys.readouterr().out
    assert told(printed) == [(str(i + 1), str(TOTAL)) for i in range(TOTAL)]
    lines = [line for line in re.split(r"[\r\n]", printed) if re.match("Validation|Testing", line)]
    assert any("estimate" in line for line in lines)
    assert "estimate" not in lines[-1]
    assert "100%" in lines[-1]


@pytest.mark.parametrize("fn", ["validate", "fit"])
@pytest.mark.parametrize("first", [True, False], ids=["before the callback", "after the callback"])
def test_every_estimate_is_shown_by_rich_and_removed(fn, first, capsys, monkeypatch):
    rich = pytest.importorskip("rich")
    monkeypatch.setattr(rich, "_console", None)  # which the bar configures for the whole process
    bar = RichProgressBar(console_kwargs={"force_terminal": True, "width": 160, "file": sys.stdout})
    callback = mi_callback(num_clusters=4, **MANY)
    callbacks = [bar, callback] if first else [callback, bar]
    trainer = quiet_trainer(enable_progress_bar=True, callbacks=callbacks)
    if fn == "fit":
        trainer.fit(Frames(), loader(utterances(64, seed=1)), loader(utterances(60)))
    else:
        trainer.validate(Frames(), loader(utterances(60)), verbose=False)
    printed = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().out)
    assert told(printed) == [(str(i + 1), str(TOTAL)) for i in range(TOTAL)]
    assert [task.description for task in bar.progress.tasks if "estimate" in task.description] == []


def test_without_a_bar_nothing_is_printed(capsys):
    run_callback(data=utterances(60), num_clusters=4)
    off = {"trainer": {"enable_progress_bar": True}, "callbacks": [TQDMProgressBar(refresh_rate=0)]}
    run_callback(data=utterances(60), num_clusters=4, **off)
    said = capsys.readouterr()
    assert "estimate" not in said.out + said.err


class Own(ProgressBar):
    """A user's own bar, which Lightning leaves everything to."""


class Broken(TQDMProgressBar):
    """A bar that can no longer be written to."""

    def init_validation_tqdm(self):
        bar = super().init_validation_tqdm()

        def fails(text):
            raise BrokenPipeError

        bar.set_postfix_str = fails
        return bar


@pytest.mark.parametrize("bar", [Own, Broken])
def test_a_bar_that_shows_nothing_or_fails_is_no_error(bar):
    run = run_callback(
        data=utterances(60), num_clusters=4, trainer={"enable_progress_bar": True}, callbacks=[bar()]
    )
    assert run.bound >= 0


class OnAll(TQDMProgressBar):
    """A bar that a user leaves on on all processes."""

    def disable(self):
        pass


@pytest.mark.parametrize("is_first", [True, False])
def test_only_the_first_process_tells_of_estimates(is_first, capsys):
    class Process(pl.Trainer):
        is_global_zero = is_first

    callbacks = [OnAll(), mi_callback(num_clusters=4)]
    trainer = Process(accelerator="cpu", logger=False, enable_checkpointing=False, callbacks=callbacks)
    trainer.validate(TinySpeechModel(), loader(utterances(60)), verbose=False)
    printed = capsys.readouterr().out
    assert "Validation" in printed
    assert ("estimate" in printed) is is_first
