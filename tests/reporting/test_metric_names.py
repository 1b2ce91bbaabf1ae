import re

import pytest

from lightning_mi import mi_bound
from lightning_mi.reporting.metric_names import METRICS, bound_metrics, labeled_metrics, metric_prefix
from tests.helpers.histories import estimate


def pattern(name):
    """A regular expression for the names that a row of the table stands for."""
    return re.compile(re.sub(r"<\\?\w+>", "(.+)", re.escape(name)) + "$")


def test_prefix_is_the_last_part():
    assert [metric_prefix(name) for name in ("val/mi_bound", "mi", "a/b/c")] == ["mi_bound", "mi", "c"]


def test_rows_have_names_of_their_own_and_a_unit():
    names = [metric.name for metric in METRICS]
    assert len(names) == len(set(names))
    assert {metric.unit for metric in METRICS} == {"nats", "s", ""}
    assert all(metric.meaning for metric in METRICS)


def test_every_name_of_estimates_has_a_row(torch_pair):
    near, far = torch_pair
    estimates = {("a", "near"): near, ("a", "far"): far, ("b", "near"): far}
    logged = dict(bound_metrics(estimates, several_gaps=True, several_layers=True))
    logged |= labeled_metrics({("a", "phone"): near, ("b", "phone"): far}, "a", several_layers=True)
    for name in logged:
        assert any(pattern(metric.name).match(f"mi_bound/{name}") for metric in METRICS), name


def test_near_minus_far_is_the_paired_difference(torch_pair):
    near, far = torch_pair
    logged = dict(bound_metrics({("a", "near"): near, ("a", "far"): far}, True, False))
    assert (logged["near_minus_far"], logged["near_minus_far_stderr"]) == near.gain_over(far)


def test_one_layer_and_one_gap_have_no_names_of_their_own():
    logged = dict(bound_metrics({("a", "near"): estimate(1.0)}, several_gaps=False, several_layers=False))
    assert list(logged) == ["stderr", "entropy", "cross_entropy", "ceiling", "active_clusters", "pairs"]


@pytest.fixture
def torch_pair():
    import torch

    z, noise = torch.randn(2, 400, 4, generator=torch.Generator().manual_seed(0))
    return mi_bound(z, z + 0.5 * noise, num_clusters=8), mi_bound(z, z + 2 * noise, num_clusters=8)
