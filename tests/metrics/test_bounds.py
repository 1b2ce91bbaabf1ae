import pickle

import pytest
import torch
from torchmetrics import MetricCollection

from lightning_mi import MIBound, mi_bound
from tests.helpers.processes import in_processes


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


def test_with_keys_the_order_of_the_updates_does_not_count():
    a, b = pairs()
    keys, groups = torch.randint(10**12, (400,)), torch.arange(40).repeat(10)
    for of_group in (None, groups):
        values = set()
        for _ in range(3):
            rows = torch.randperm(400)
            metric = MIBound(num_clusters=8)
            for part in rows.split(64):
                metric.update(a[part], b[part], None if of_group is None else of_group[part], keys[part])
            values.add(metric.compute().item())
        assert len(values) == 1


def test_pickle_clone_reset_forward():
    a, b = pairs()
    metric = MIBound(num_clusters=8)
    assert metric(a, b) == metric.compute()  # the value of the batch, and the state
    value = metric.compute()
    assert pickle.loads(pickle.dumps(metric)).compute() == value
    assert metric.clone().compute() == value
    metric.reset()
    assert metric.z_a == []
    with pytest.raises(ValueError, match="has seen no rows"), pytest.warns(UserWarning, match="before"):
        metric.compute()
    metric.update(a[:200], b[:200])
    assert metric.compute() != value


def test_states_are_kept_out_of_checkpoints_and_gradients():
    a, b = pairs()
    metric = MIBound(num_clusters=8)
    metric.update(a.requires_grad_(), b)
    assert metric.state_dict() == {}
    assert not metric.z_a[0].requires_grad
    metric.persistent(True)
    assert set(metric.state_dict()) == {"z_a", "z_b", "groups", "keys"}


def test_moves_dtype():
    a, b = pairs()
    metric, wide = MIBound(num_clusters=8), MIBound(num_clusters=8)
    metric.update(a, b)
    wide.update(a, b)
    wide.set_dtype(torch.float64)
    assert wide.z_a[0].dtype == torch.float64
    assert wide.groups[0].dtype == torch.int64
    assert wide.compute().item() == pytest.approx(metric.compute().item(), abs=1e-3)


def test_in_a_collection():
    a, b = pairs()
    collection = MetricCollection({"few": MIBound(num_clusters=4), "many": MIBound(num_clusters=16)})
    collection.update(a, b)
    collection.update(b, a)
    values = collection.compute()
    assert values["many"] > values["few"] > 0.3
    assert values["few"] == pytest.approx(mi_bound(torch.cat([a, b]), torch.cat([b, a]), 4).bound)


def test_plot():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    a, b = pairs()
    metric = MIBound(num_clusters=4)
    metric.update(a, b)
    figure, axes = metric.plot([metric.compute(), torch.tensor(1.0)])
    assert len(axes.lines) == 1
    matplotlib.pyplot.close(figure)


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


SHARES = [[(0, 200), (200, 400)], [(0, 50), (50, 400)], [(0, 0), (0, 400)]]


def _in_shares():
    """For each way to share 400 pairs out: the bound, the pairs, and the rows held after a further update."""
    torch.distributed.init_process_group("gloo")
    found = []
    for share in SHARES:
        torch.manual_seed(0)
        a, b = pairs()
        groups = torch.arange(400) * 1000
        metric = MIBound(num_clusters=8)
        start, stop = share[torch.distributed.get_rank()]
        for rows in torch.arange(start, stop).split(37):
            metric.update(a[rows], b[rows], groups[rows])
        bound, num_pairs = metric.compute().item(), metric.estimate().num_pairs
        metric.update(a[:5], b[:5])  # after the sync the state is this process's own again
        found.append((bound, num_pairs, sum(len(z) for z in metric.z_a) - (stop - start)))
    return found


def test_two_processes_equal_one(tmp_path):
    torch.manual_seed(0)
    reference = mi_bound(*pairs(), 8, groups=torch.arange(400) * 1000)
    for found in in_processes(2, tmp_path, _in_shares):
        for bound, num_pairs, more in found:
            assert bound == pytest.approx(reference.bound, abs=1e-5)
            assert num_pairs == 400
            assert more == 5
