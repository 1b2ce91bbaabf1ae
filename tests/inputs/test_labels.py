"""Labels of utterances and of frames, wherever they are in the batch, and what is no label."""

from collections import namedtuple

import pytest
import torch

from lightning_mi.estimator.bound import UNLABELED
from lightning_mi.inputs.labels import NO_LABEL, labels_at, parse_labels
from lightning_mi.inputs.structure import UnknownStructureError

Batch = namedtuple("Batch", ["wav", "speaker"])


def read(labels, batch, num_rows=3):
    (one,) = parse_labels(labels)
    return one.read(batch, num_rows)


WAVES = torch.randn(3, 400)
SPEAKERS = torch.tensor([4, 2, 4])


@pytest.mark.parametrize(
    ("labels", "batch"),
    [
        ("speaker", {"wav": WAVES, "speaker": SPEAKERS}),
        ("speaker", Batch(WAVES, SPEAKERS)),
        (1, (WAVES, SPEAKERS)),
        (1, (WAVES, SPEAKERS[:, None])),
        (1, [WAVES, SPEAKERS.int()]),
        (1, (WAVES, [4, 2, 4])),
        (lambda batch: batch[1] * 2 // 2, (WAVES, SPEAKERS)),
        ({"who": "speaker"}, {"wav": WAVES, "speaker": SPEAKERS}),
        ({"who": {"source": "speaker"}}, {"wav": WAVES, "speaker": SPEAKERS}),
    ],
)
def test_labels_are_found_by_key_index_and_function(labels, batch):
    found = read(labels, batch)
    assert found.dtype == torch.int64
    assert found.tolist() == [4, 2, 4]


def test_strings_are_the_same_number_everywhere():
    found = read(1, (WAVES, ["ann", "bob", "ann"]))
    assert found[0] == found[2] != found[1]
    assert found.tolist() == [5088345978781694418, 4213563397267214921, 5088345978781694418]
    assert bool((found >= 0).all())


def test_labels_of_frames_are_those_at_their_times():
    frames = torch.arange(12).reshape(3, 4)
    assert torch.equal(read({"phone": {"source": 1, "rate": 50}}, (WAVES, frames)), frames)
    seconds = torch.tensor([[0.0, 0.0199, 0.02], [0.079, 0.08, 9.0], [0.03, 0.05, 0.07]])
    assert labels_at(frames, 50.0, seconds).tolist() == [[0, 0, 1], [7, -1, -1], [9, 10, 11]]


@pytest.mark.parametrize(
    ("labels", "batch", "message"),
    [
        ("voice", {"speaker": SPEAKERS}, r"`labels` must name a part.*'voice'.*KeyError(.|\n)*batch\['speaker'\]"),
        (5, (WAVES, SPEAKERS), "IndexError"),
        (0, (WAVES, SPEAKERS), r"integers \(or strings\) of shape \(3,\).*torch.float32"),
        (1, (WAVES, SPEAKERS[:2]), r"shape \(3,\).*got \(2,\)"),
        (1, (WAVES, torch.zeros(3, 9).long()), "need their `rate`"),
        ({"phone": {"source": 1, "rate": 50}}, (WAVES, SPEAKERS), r"\(3, F\)"),
        (lambda batch: None, (WAVES,), "got NoneType"),
    ],
)
def test_what_is_no_label_is_named(labels, batch, message):
    with pytest.raises(UnknownStructureError, match=message):
        read(labels, batch)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (1.5, TypeError, r"`labels\['labels'\]` must be a key, an index or a function.*1.5"),
        ({"a": None}, TypeError, r"`labels\['a'\]` must be"),
        ({"a": {"rate": 3}}, TypeError, "must have a `source`"),
        ({"a": {"source": 1, "rat": 3}}, TypeError, "must have a `source`"),
        ({"a": {"source": 1, "rate": "x"}}, TypeError, "must be a number of labels a second"),
        ({"a": {"source": 1, "rate": 0}}, ValueError, "must be positive"),
    ],
)
def test_bad_arguments_are_named(labels, error, message):
    with pytest.raises(error, match=message):
        parse_labels(labels)


# ---- the metric


def test_no_label_is_what_the_estimator_leaves_out():
    assert NO_LABEL == UNLABELED
