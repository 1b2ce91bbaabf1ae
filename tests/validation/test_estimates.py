"""Which estimates are wanted of the stored columns, and that one that fails is a reason and no more."""

import pytest
import torch

from lightning_mi import LabeledMIBound, MIBound, labeled_mi_bound, mi_bound
from lightning_mi.hashing import mix
from lightning_mi.validation.estimates import Outcome, SharedWork, labeled_metric, pair_metric
from lightning_mi.validation.pair_store import Column, Kind, PairStore

LAYER, LABELS = Column(Kind.LAYER, "rnn"), Column(Kind.LABELS, "phone")


def pairs(labels):
    store, keys = PairStore(200), torch.arange(200)
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(200, 1, 4, generator=generator) + 0.5 * torch.randn(200, 3, 4, generator=generator)
    store.add(keys, mix(keys), keys // 2, {LAYER: z, LABELS: labels})
    return store, z


def test_an_estimate_that_fails_is_a_reason_and_the_others_are_made():
    store, z = pairs(torch.zeros(200, dtype=torch.int64))
    metrics = {
        "fine": lambda: pair_metric(MIBound(num_clusters=4), store, LAYER, 1),
        "too many": lambda: pair_metric(MIBound(num_clusters=150), store, LAYER, 1),
    }
    found = SharedWork().compute(metrics)
    assert list(found) == ["fine", "too many"]
    expected = mi_bound(z[:, 0], z[:, 1], 4, groups=store.groups)
    assert found["fine"] == Outcome(expected)
    assert found["too many"].estimate is None
    assert "`num_clusters` must be at most" in found["too many"].reason


@pytest.mark.parametrize("partner", [1, 2])
def test_pairs_are_the_anchor_and_the_partner(partner):
    store, z = pairs(torch.zeros(200, dtype=torch.int64))
    found = pair_metric(MIBound(num_clusters=4), store, LAYER, partner).estimate()
    assert found == mi_bound(z[:, 0], z[:, partner], 4, groups=store.groups)


def test_labels_of_utterances_are_of_the_anchor():
    labels = torch.arange(200) % 3
    store, z = pairs(labels)
    found = labeled_metric(LabeledMIBound(), store, LAYER, LABELS).estimate()
    order = mix(torch.arange(200)).argsort()
    assert found.bound == pytest.approx(labeled_mi_bound(z[order, 0], labels[order], store.groups[order]).bound)
    assert found.num_pairs == 200


def test_labels_of_frames_are_a_row_a_segment():
    labels = torch.arange(600).reshape(200, 3) % 5
    store, z = pairs(labels)
    metric = labeled_metric(LabeledMIBound(), store, LAYER, LABELS)
    assert metric.estimate().num_pairs == 600
    assert torch.equal(torch.cat(metric.labels), labels.flatten())
    assert torch.equal(torch.cat(metric.z), z.flatten(0, 1))
    assert torch.equal(torch.cat(metric.groups), store.groups.repeat_interleave(3))


def test_a_process_without_pairs_adds_no_rows():
    assert pair_metric(MIBound(), PairStore(4), LAYER, 1).z_a == []
