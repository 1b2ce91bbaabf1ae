import pytest
import torch
from torchmetrics import MetricCollection

from lightning_mi import MIBound, mi_bound


def pairs(num=400, dim=4):
    z = torch.randn(num, dim)
    return z, z + 0.5 * torch.randn(num, dim)


@pytest.mark.parametrize("batch", [1, 13, 400])
@pytest.mark.parametrize("grouped", [False, True])
def test_equals_the_function_whatever_the_batch_size(batch, grouped):
    a, b = pairs()
    groups = torch.randint(10**12, (200,)).repeat(2) if grouped else None
    metric = MIBound(num_clusters=8, seed=2)
    for rows in torch.arange(400).split(batch):
        metric.update(a[rows], b[rows], None if groups is None else groups[rows])
    reference = mi_bound(a, b, 8, groups, seed=2)
    assert metric.compute().shape == ()
    assert metric.compute().item() == pytest.approx(reference.bound)
    assert metric.estimate() == reference


def test_mixed_updates_with_and_without_groups():
    a, b = pairs()
    metric = MIBound(num_clusters=8)
    metric.update(a[:200], b[:200], torch.zeros(200, dtype=torch.long))
    metric.update(a[200:], b[200:])
    assert metric.estimate().num_groups == 201


def test_in_a_collection():
    a, b = pairs()
    collection = MetricCollection({"few": MIBound(num_clusters=4), "many": MIBound(num_clusters=16)})
    collection.update(a, b)
    collection.update(b, a)
    values = collection.compute()
    assert values["many"] > values["few"] > 0.3
    assert values["few"] == pytest.approx(mi_bound(torch.cat([a, b]), torch.cat([b, a]), 4).bound)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: MIBound(num_clusters=0), ValueError, "`num_clusters` must be at least 1"),
        (lambda: MIBound(seed=None), TypeError, "`seed` must be an int"),
        (lambda: MIBound().update(torch.ones(3, 2), torch.ones(2, 2)), ValueError, "same number of rows"),
        (lambda: MIBound().update(torch.ones(3), torch.ones(3)), ValueError, r"`z_a` must have shape \(N, D\)"),
        (lambda: MIBound().update(torch.ones(3, 2), torch.ones(3, 2, dtype=int)), TypeError, "`z_b` must hold"),
        (lambda: MIBound().update(torch.ones(3, 2), torch.ones(3, 2), torch.ones(3)), TypeError, "`groups`"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
