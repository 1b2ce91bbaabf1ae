import warnings
from dataclasses import replace

import pytest
import torch

from lightning_mi import mi_bound
from lightning_mi.arguments import Arguments
from lightning_mi.controls.null_control import NullFinding
from lightning_mi.reporting.messages import Message, Messenger, Topic, messages_of
from lightning_mi.validation.estimates import Findings, Outcome
from tests.helpers.histories import estimate


def findings(**changes):
    found = {
        "estimates": {("output", "near"): estimate(1.0)},
        "labeled": {},
        "input_baseline": None,
        "null": None,
        "num_clusters": 8,
        "num_pairs": 100,
        "skipped": 0,
        "reasons": "0 too short",
        "num_frames": {"output": 24},
    }
    return Findings(**{**found, **changes})


def test_each_topic_and_subject_is_told_once():
    messenger = Messenger("we")
    told = [
        Message(Topic.SKIPPED, "leave out 3."),
        Message(Topic.SKIPPED, "leave out 4."),
        Message(Topic.MISSING_METRIC, "log no null.", subject="null"),
        Message(Topic.MISSING_METRIC, "log no input.", subject="input"),
    ]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for message in told:
            messenger.tell(message)
    assert [str(each.message) for each in caught] == ["we leave out 3.", "we log no null.", "we log no input."]


def test_a_leak_is_told_after_a_null_control_that_failed():
    failed = list(messages_of(findings(null=Outcome(reason="no torchaudio")), Arguments()))
    leaking = list(messages_of(findings(null=NullFinding(estimate(0.3, 0.01), 50, 100)), Arguments()))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        messenger = Messenger("we")
        for message in (*failed, *leaking):
            messenger.tell(message)
    assert len(caught) == 2
    assert "logs no null: no torchaudio" in str(caught[0].message)
    assert "mi_bound/null is 0.300 ± 0.010 nats and should be 0" in str(caught[1].message)


def test_nothing_to_say():
    found = findings(null=NullFinding(estimate(0.001, 0.001), 0, 100))
    for each in (findings(), found):
        assert list(messages_of(each, Arguments(num_clusters=8))) == []


def test_number_of_clusters_that_nobody_asked_for_is_told_once_for_each_value():
    told = [message for k in (8, 8, 4) for message in messages_of(findings(num_clusters=k), Arguments())]
    assert [(each.text, each.is_warning) for each in told] == [
        (f"uses {k} clusters for 100 pairs.", False) for k in (8, 8, 4)
    ]
    assert len({(each.topic, each.subject) for each in told}) == 2


@pytest.mark.parametrize(("given", "chosen", "said"), [(None, 4, True), (None, 1, False), (4, 4, False)])
def test_a_number_of_pairs_per_utterance_that_nobody_asked_for_is_told(given, chosen, said):
    arguments = Arguments(num_clusters=8, pairs_per_utterance=given)
    told = [message.text for message in messages_of(findings(pairs_per_utterance=chosen), arguments)]
    assert told == (["takes up to 4 pairs from an utterance, 100 in all."] if said else [])


@pytest.mark.parametrize(("bound", "stderr", "leaks"), [(0.3, 0.01, True), (0.3, 0.2, False), (5e-4, 1e-6, False)])
def test_leaks_are_warnings_and_duplicates_without_harm_are_not(bound, stderr, leaks):
    (message,) = messages_of(
        findings(null=NullFinding(estimate(bound, stderr), 50, 100)), Arguments(num_clusters=8)
    )
    assert message.is_warning == leaks
    assert message.topic == (Topic.LEAK if leaks else Topic.NEAR_DUPLICATES)
    assert "50 of 100 utterances share sound" in message.text


def test_fewer_clusters_than_asked_for_and_utterances_left_out():
    texts = [each.text for each in messages_of(findings(skipped=5), Arguments(num_clusters=16))]
    assert texts[0] == "leaves out 5 utterances: 0 too short."
    assert texts[1].startswith("lowers `num_clusters` from 16 to 8: 100 pairs leave fewer than 4")


def test_labels_that_failed_are_named_with_their_layer():
    failed = {("rnn", "phone"): Outcome(reason="one class"), ("rnn", "speaker"): Outcome(estimate(1.0))}
    (message,) = messages_of(findings(labeled=failed), Arguments(num_clusters=8))
    assert message.text == "logs no phone of rnn: one class"


@pytest.mark.parametrize(
    ("num_frames", "arguments", "said"),
    [
        (None, {}, "one vector a segment, so `pooling='boundary'` changes nothing"),
        (None, {"preset": "voice"}, None),
        (1, {"preset": "content"}, "1 frame(s) from a segment of 0.5 s"),
        (3, {}, None),
    ],
)
def test_what_the_encoder_makes_of_a_segment(num_frames, arguments, said):
    told = list(messages_of(findings(num_frames={"output": num_frames}), Arguments(num_clusters=8, **arguments)))
    assert [said in message.text for message in told] == ([] if said is None else [True])
    assert not any(message.is_warning for message in told)


def test_a_bound_and_a_difference_of_0_are_told_once_each():
    z = torch.randn(400, 4, generator=torch.Generator().manual_seed(0))
    same = mi_bound(z, z, 8)
    for estimates, said in (
        ({("output", "near"): estimate(0.01, 0.01)}, ["finds a bound of 0.010 ± 0.010 nats"]),
        ({("output", "same"): same, ("output", "far"): same}, ["finds a content of 0.000 ± 0.000 nats"]),
        ({("output", "same"): same}, []),
    ):
        told = list(messages_of(findings(estimates=estimates), Arguments(num_clusters=8)))
        assert len(told) == len(said)
        assert all(message.text.startswith(start) for message, start in zip(told, said, strict=True))


@pytest.mark.parametrize(("groups", "told"), [(5, True), (2000, False)])
def test_two_and_a_half_errors_of_few_groups_are_0_within_the_error(groups, told):
    found = {("output", "near"): replace(estimate(0.025, 0.01), num_groups=groups)}
    texts = [message.text for message in messages_of(findings(estimates=found), Arguments())]
    assert any("0 within its error" in text for text in texts) == told
