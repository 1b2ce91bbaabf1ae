"""Speakers that batches name are the groups of the bound, on one process and on two."""

import math

import pytest
import torch
from torch.utils.data import DataLoader

from tests.helpers.distributed import in_processes
from tests.helpers.models import TinySpeechModel
from tests.helpers.run_callback import run_callback
from tests.helpers.speech import utterances

X = utterances(120)
SPEAKERS = torch.arange(120) // 6  # 20 speakers


class OfDicts(TinySpeechModel):
    """Its validation batches are dicts."""

    def validation_step(self, batch, batch_idx):
        pass


def batches(speakers=SPEAKERS):
    names = [f"spk{number}" for number in speakers.tolist()]
    return DataLoader([{"wav": x, "speaker_id": name} for x, name in zip(X, names, strict=True)], batch_size=16)


def validate(speakers=SPEAKERS, **arguments):
    torch.manual_seed(0)
    return run_callback(OfDicts(), batches(speakers), **arguments)


def by_hand(batch):
    return batch["wav"], None, torch.tensor([int(name[3:]) for name in batch["speaker_id"]])


def test_the_speakers_are_the_groups_and_that_is_said_once(caplog):
    with caplog.at_level("INFO"):
        run = validate()
    assert run.estimate.num_groups == 20
    assert sum("finds 20 speakers" in record.message for record in caplog.records) == 1
    assert not run.warnings
    utterance = validate(torch.arange(120))
    assert utterance.estimate.num_groups == 120
    assert run.estimate.stderr != utterance.estimate.stderr


def test_groups_by_hand_have_the_same_scores_in_each_group():
    """The names differ, and with them the halves: what the groups hold is the same."""
    named, hand = validate().estimate.scores, validate(batch_to_waveforms=by_hand).estimate.scores
    assert named.counts.tolist() == hand.counts.tolist() == [6] * 20
    assert hand.groups.sort().values.tolist() == list(range(20))


@pytest.mark.parametrize(("number", "groups"), [(1, 120), (4, 120), (5, 5)])
def test_too_few_speakers_leave_the_utterances(number, groups, caplog):
    with caplog.at_level("INFO"):
        run = validate(torch.arange(120) % number)
    assert run.estimate.num_groups == groups
    told = any("too few to be the groups" in record.message for record in caplog.records)
    assert told == (number < 5)


def test_labels_of_speakers_are_still_seen_on_both_sides():
    run = validate(SPEAKERS // 4, labels="speaker_id")
    assert run.estimate.num_groups == 5
    assert run.logged["mi_bound/labels/speaker_id/entropy"] == pytest.approx(math.log(5), abs=0.05)
    assert run.callback.no_value_reason is None


def on_processes(devices):
    run = validate(trainer={"devices": devices})
    return run.estimate.num_groups, run.bound, run.estimate.stderr


def test_two_processes_say_what_one_says(tmp_path):
    alone = on_processes(1)
    for found in in_processes(2, tmp_path, on_processes, 2):
        assert found == pytest.approx(alone, abs=1e-5)
