"""Pairs per utterance by default: as many as fill the pairs that are wanted, chosen once a run and held."""

import logging
from typing import ClassVar

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from tests.helpers.models import TinySpeechModel
from tests.helpers.run_callback import callback_warnings, mi_callback, run_callback
from tests.helpers.speech import utterances

MAX_PAIRS = 300
MANY = utterances(220)  # with room for three pairs each; 300 / 220 rounds to 1, and 300 / 190 to 2
FEW = MANY[:190]


class CountsSegments(TinySpeechModel):
    """Counts the segments that it is called with in each validation, and nothing in its own step."""

    counts: ClassVar = []  # on the class, which isolation does not restore

    def on_validation_epoch_start(self):
        self.counts.append(0)

    def forward(self, x):
        self.counts[-1] += len(x)
        return super().forward(x)

    def validation_step(self, batch, batch_idx):
        pass

    def training_step(self, batch, batch_idx):
        return self.head.weight.square().mean()


class Growing:
    """Batches of a few utterances in the first epoch, and of many afterwards."""

    def __init__(self, module):
        self.module = module

    def __iter__(self):
        return iter((MANY if self.module.current_epoch else FEW).split(32))


def automatic(**arguments):
    return mi_callback(**{"pairs_per_utterance": None, "max_pairs": MAX_PAIRS} | arguments)


def fit(epochs, callbacks=(), ckpt_path=None):
    torch.manual_seed(0)
    CountsSegments.counts.clear()
    module = CountsSegments()
    settings = {"max_epochs": epochs, "enable_checkpointing": bool(callbacks)}
    return run_callback(
        module, Growing(module), "fit", automatic(), trainer=settings, callbacks=callbacks, ckpt_path=ckpt_path
    )


@pytest.mark.parametrize(
    ("count", "max_pairs", "pairs"),
    [
        (100, 4096, 300),  # there is room for no more than three
        (190, 300, 300),
        (220, 300, 220),
        (100, 210, 200),
        (150, 90, 90),
    ],
)
def test_as_many_as_fill_the_wanted_pairs(count, max_pairs, pairs):
    module, x = TinySpeechModel(), utterances(count)
    run = run_callback(module, x, callback=automatic(max_pairs=max_pairs))
    assert run.logged["mi_bound/pairs"] == pairs
    chosen = run.callback.sampler.pairs_per_utterance
    given = run_callback(module, x, callback=automatic(max_pairs=max_pairs, pairs_per_utterance=chosen))
    del run.logged["mi_bound/seconds"], given.logged["mi_bound/seconds"]
    assert given.logged == pytest.approx(run.logged, abs=1e-5)


def test_chosen_at_the_first_validation_and_held_for_the_run_and_across_a_resume(tmp_path, caplog):
    """And not in the sanity check, which sees 64 utterances, for which it would be four."""
    saves = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    with caplog.at_level(logging.INFO):
        run = fit(2, callbacks=[saves])
    assert [epoch["mi_bound/pairs"] for epoch in run.epochs] == [300, 300]
    assert "takes up to 2 pairs from an utterance, 300 in all" in caplog.text
    assert {"mi_bound/gain", "mi_bound/gain_stderr"} <= run.logged.keys()
    assert not run.warnings
    state = torch.load(tmp_path / "epoch=0.ckpt", weights_only=True)["callbacks"]
    (saved,) = (state[key] for key in state if key.startswith("MIBoundCallback"))
    assert saved["run"]["pairs_per_utterance"] == 2
    resumed = fit(2, ckpt_path=tmp_path / "epoch=0.ckpt")
    assert resumed.logged["mi_bound/pairs"] == 300
    assert resumed.bound == run.bound
    assert not resumed.warnings
    fresh = run_callback(data=MANY, fn="fit", callback=automatic())
    assert fresh.logged["mi_bound/pairs"] == 220


def test_no_more_is_encoded_than_is_used_once_it_is_chosen():
    run = fit(2)
    _, first, second = CountsSegments.counts  # after the sanity check
    assert [epoch["mi_bound/pairs"] for epoch in run.epochs] == [300, 300]
    assert first > second
    assert first <= 2 * 3 * len(FEW)
    assert second <= 2 * 2 * len(MANY)


def test_validate_and_test_choose_for_their_own_data():
    one = automatic()
    run_callback(data=FEW, fn="fit", callback=one)
    assert one.sampler.pairs_per_utterance == 2
    run = run_callback(data=MANY, fn="test", callback=one)
    assert run.logged["mi_bound/pairs"] == 220


def saved_state(**arguments):
    one = automatic(**arguments)
    run_callback(data=FEW, fn="fit", callback=one)
    return one.state_dict()


@pytest.mark.parametrize(
    ("before", "now", "held", "said"),
    [
        (None, None, 2, None),
        (1, None, 1, None),  # as the default was, and for comparable values
        (None, 2, 2, None),
        (3, 2, None, "`pairs_per_utterance` was 3 and is 2"),
        (None, 3, None, "`pairs_per_utterance` was 2 and is 3"),
    ],
)
def test_a_checkpoint_with_another_number(before, now, held, said):
    state = saved_state(pairs_per_utterance=before)
    one = automatic(pairs_per_utterance=now)
    with callback_warnings() as texts:
        one.load_state_dict(state)
    assert [said in text for text in texts] == ([True] if said else [])
    assert one.state_dict()["run"]["pairs_per_utterance"] == held
