"""Each metric against its function on all rows at once."""

import pytest
import torch
from torchmetrics import MetricCollection

from lightning_mi import LabeledMIBound, MIBound, labeled_mi_bound, mi_bound
from lightning_mi.estimator.shuffled_bound import null_bound
from lightning_mi.metrics.bounds import NullBound
from tests.helpers.draws import classification, gaussian


def in_batches(metric, rows, size):
    """Update ``metric`` with batches of the named ``rows``."""
    for part in torch.arange(400).split(size):
        metric.update(**{name: values[part] for name, values in rows.items()})
    return metric


@pytest.fixture(params=[False, True], ids=["rows", "groups"])
def groups(request):
    return {"groups": torch.randint(10**12, (200,)).repeat(2)} if request.param else {}


@pytest.mark.parametrize("size", [1, 13, 400])
def test_mi_bound_is_the_function_for_any_batch_size(size, groups):
    a, b, _ = gaussian(400, 4, 0.9)
    metric = in_batches(MIBound(num_clusters=8, seed=2), {"z_a": a, "z_b": b, **groups}, size)
    reference = mi_bound(a, b, 8, **groups, seed=2)
    assert metric.compute().shape == ()
    assert metric.compute().item() == pytest.approx(reference.bound)
    assert metric.estimate() == reference


@pytest.mark.parametrize("size", [1, 13, 400])
def test_labeled_bound_is_the_function_for_any_batch_size(size, groups):
    z, labels = classification(400, 6, 4, noise=0.5)
    labels[::7] = -1
    metric = in_batches(LabeledMIBound(seed=2), {"z": z, "labels": labels, **groups}, size)
    # The metric numbers rows before those without a label are left out, the function without groups afterwards.
    named = {"groups": torch.arange(400)} | groups
    assert metric.estimate() == labeled_mi_bound(z, labels, **named, seed=2)
    assert metric.estimate().num_pairs == int((labels >= 0).sum())


@pytest.mark.parametrize("size", [1, 13, 400])
def test_null_bound_is_the_function_for_any_batch_size(size, groups):
    a, b, _ = gaussian(400, 4, 0.9)
    rows = {"z_a": a, "z_b": b, "near_duplicates": torch.arange(400) // 4}
    metric = in_batches(NullBound(num_clusters=8, seed=2), {**rows, **groups}, size)
    assert metric.estimate() == null_bound(**rows, num_clusters=8, **groups, seed=2)


def test_quantizer_and_probe_are_those_of_the_function():
    a, b, _ = gaussian(400, 4, 0.9)
    metric = MIBound(num_clusters=8, quantizer="whitened", probe="quadratic")
    metric.update(a, b)
    assert metric.estimate() == mi_bound(a, b, 8, quantizer="whitened", probe="quadratic")
    inside = (a[:, :2].norm(dim=1) < 1.18).long()  # which only products of coordinates predict
    labeled = LabeledMIBound(probe="quadratic")
    labeled.update(a, inside)
    assert labeled.estimate() == labeled_mi_bound(a, inside, probe="quadratic")
    assert labeled.estimate().bound > labeled_mi_bound(a, inside).bound + 0.1


def test_rows_without_groups_are_their_own_groups_beside_others():
    a, b, _ = gaussian(400, 4, 0.9)
    metric = MIBound(num_clusters=8)
    metric.update(a[:200], b[:200], torch.zeros(200, dtype=torch.long))
    metric.update(a[200:], b[200:])
    assert metric.estimate().num_groups == 201


def test_metrics_of_a_collection_are_computed_each_on_all_rows():
    a, b, _ = gaussian(400, 4, 0.9)
    collection = MetricCollection({"few": MIBound(num_clusters=4), "many": MIBound(num_clusters=16)})
    collection.update(a, b)
    collection.update(b, a)
    values = collection.compute()
    both = torch.cat([a, b]), torch.cat([b, a])
    assert values["few"].item() == pytest.approx(mi_bound(*both, 4).bound)
    assert values["many"].item() == pytest.approx(mi_bound(*both, 16).bound)


Z = torch.ones(3, 2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: MIBound(num_clusters=0), ValueError, "`num_clusters` must be at least 1"),
        (lambda: MIBound(seed=None), TypeError, "`seed` must be an int"),
        (lambda: MIBound(quantizer="kmean"), ValueError, "`quantizer` must be one of .* got 'kmean'"),
        (lambda: MIBound(probe="cosine"), ValueError, "`probe` must be one of .* got 'cosine'"),
        (lambda: MIBound().update(Z, torch.ones(2, 2)), ValueError, "same number of rows"),
        (lambda: MIBound().update(Z[:, 0], Z[:, 0]), ValueError, r"`z_a` must have shape \(N, D\)"),
        (lambda: MIBound().update(Z, Z.int()), TypeError, "`z_b` must hold"),
        (lambda: MIBound().update(Z, Z, torch.ones(3)), TypeError, "`groups` must be an integer tensor"),
        (lambda: LabeledMIBound(seed=0.5), TypeError, "`seed` must be an int"),
        (lambda: LabeledMIBound(probe="cosine"), ValueError, "`probe` must be one of .* got 'cosine'"),
        (lambda: LabeledMIBound().update(Z, torch.ones(3)), TypeError, "`labels` must be an integer tensor"),
        (lambda: NullBound(num_clusters=2.0), TypeError, "`num_clusters` must be an int"),
        (lambda: NullBound().update(Z, Z, torch.arange(2)), ValueError, "`near_duplicates` must have one entry"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
