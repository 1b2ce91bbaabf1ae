"""The pieces of the null control; whole runs are in tests/integration/test_null_control.py."""

from dataclasses import replace

import pytest
import torch

from lightning_mi.controls.fingerprints import fingerprint
from lightning_mi.controls.null_control import NullControl, NullFinding, fingerprint_utterances
from lightning_mi.inputs.batches import Waveforms
from lightning_mi.inputs.segments import SegmentSampler, parse_gaps
from lightning_mi.metrics.bounds import NullBound
from tests.helpers.histories import estimate
from tests.helpers.speech import SAMPLE_RATE, chords, copies


@pytest.mark.parametrize(("bound", "stderr", "leaks"), [(0.3, 0.01, True), (0.3, 0.2, False), (5e-4, 1e-6, False)])
def test_a_leak_is_above_three_standard_errors_and_a_thousandth(bound, stderr, leaks):
    assert NullFinding(estimate(bound, stderr), 0, 100).leaks == leaks


def test_three_errors_of_few_groups_are_no_leak():
    """Student's t with 3 degrees of freedom is beyond 9.2 standard errors as often as a normal beyond 3."""
    few = replace(estimate(0.3, 0.05), num_groups=5)
    assert not NullFinding(few, 0, 100).leaks
    assert NullFinding(replace(few, bound=0.5), 0, 100).leaks


def test_messages_name_both_metrics_and_the_near_duplicates():
    leak = NullFinding(estimate(0.3, 0.01), 7, 100).message("val/mi_bound", "mi_bound/null")
    assert "mi_bound/null is 0.300 ± 0.010 nats and should be 0" in leak
    assert "val/mi_bound may be too high" in leak
    assert "7 of 100 utterances share sound" in leak
    assert NullFinding(estimate(0.0, 0.01), 1, 100).message("val/mi_bound", "mi_bound/null") is None
    assert "7 of 100" in NullFinding(estimate(0.0, 0.01), 7, 100).message("val/mi_bound", "mi_bound/null")


def segments_of(x):
    lengths = torch.full((len(x),), x.shape[1])
    return SegmentSampler(0.5, parse_gaps("near"), SAMPLE_RATE, seed=0)(Waveforms(x, lengths)), lengths


def test_every_segment_has_the_fingerprint_of_its_utterance():
    x = chords(12, seconds=2.0)
    segments, lengths = segments_of(x)
    some = segments.select(torch.arange(12) % 3 == 0)
    found = fingerprint_utterances(some, Waveforms(x, lengths), SAMPLE_RATE)
    assert torch.equal(found.fingerprints, fingerprint(x, lengths, SAMPLE_RATE)[some.rows])


def test_copies_are_one_cluster_and_are_counted_if_no_group_holds_them():
    original = chords(10, seconds=2.0)
    x = torch.cat([original, copies(original[:4])])
    segments, lengths = segments_of(x)
    found = fingerprint_utterances(segments, Waveforms(x, lengths), SAMPLE_RATE)
    z = torch.randn(14, 2, 3)
    control = NullControl(z, found.groups, found.keys, found.utterances, found.fingerprints)
    clusters, duplicates, utterances = control.near_duplicates()
    assert (duplicates, utterances) == (8, 14)
    assert len(clusters.unique()) == 10
    rows = found.rows.tolist()
    for number in range(4):
        assert clusters[rows.index(number)] == clusters[rows.index(10 + number)]
    together = torch.cat([torch.arange(10), torch.arange(4)])[found.rows]
    assert NullControl(z, together, found.keys, found.utterances, found.fingerprints).near_duplicates()[1] == 0
    metric = control.metric(clusters, lambda: NullBound(num_clusters=2))
    assert torch.equal(torch.cat(metric.near_duplicates), clusters)
    assert torch.equal(torch.cat(metric.z_b), z[:, 1])


def test_a_process_without_pairs_has_none_to_add():
    none = torch.empty(0, dtype=torch.int64)
    metric = NullControl(None, none, none, none, none.new_empty(0, 64)).metric(
        none, lambda: NullBound(num_clusters=2)
    )
    assert metric.z_a == []
