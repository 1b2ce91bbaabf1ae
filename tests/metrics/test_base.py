"""BoundMetric: states, their order, dtypes and processes, against the function on all rows."""

import pickle
import warnings

import pytest
import torch

from lightning_mi import MIBound, mi_bound
from tests.helpers.distributed import in_processes
from tests.helpers.draws import gaussian


def pairs():
    return gaussian(400, 4, 0.9)[:2]


def test_with_keys_the_order_of_the_updates_changes_nothing():
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


def test_forward_is_the_value_of_the_batch_and_adds_it():
    a, b = pairs()
    metric = MIBound(num_clusters=8)
    metric.update(a[:200], b[:200])
    assert metric(a[200:], b[200:]).item() == pytest.approx(mi_bound(a[200:], b[200:], 8).bound)
    assert metric.compute().item() == pytest.approx(mi_bound(a, b, 8).bound)


def test_a_batch_that_is_too_small_for_a_value_is_nan_and_its_rows_count():
    a, b = pairs()
    metric = MIBound(num_clusters=8)
    assert metric(a[:390], b[:390]).item() == pytest.approx(mi_bound(a[:390], b[:390], 8).bound)
    with pytest.warns(UserWarning, match="MIBound is nan for a batch, whose rows are kept.*got 8 clusters for"):
        assert metric(a[390:399], b[390:399]).isnan()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert metric(a[399:], b[399:]).isnan()
    assert metric.compute().item() == pytest.approx(mi_bound(a, b, 8).bound)
    with pytest.raises(ValueError, match="finite"):  # is no matter of few rows
        metric(a / 0, b / 0)
    few = MIBound(num_clusters=8)
    few.update(a[:9], b[:9])
    with pytest.raises(ValueError, match="8 clusters"):
        few.compute()


def test_pickles_and_clones_hold_the_same_rows():
    a, b = pairs()
    metric = MIBound(num_clusters=8)
    metric.update(a, b)
    value = metric.compute()
    assert pickle.loads(pickle.dumps(metric)).compute() == value
    assert metric.clone().compute() == value


def test_reset_removes_all_rows():
    a, b = pairs()
    metric = MIBound(num_clusters=8)
    metric.update(a, b)
    metric.reset()
    assert metric.z_a == []
    with pytest.raises(ValueError, match="has seen no rows"), pytest.warns(UserWarning, match="before"):
        metric.compute()
    metric.update(a[:200], b[:200])
    assert metric.compute().item() == pytest.approx(mi_bound(a[:200], b[:200], 8).bound)


def test_states_are_kept_out_of_checkpoints_and_gradients():
    a, b = pairs()
    metric = MIBound(num_clusters=8)
    metric.update(a.requires_grad_(), b)
    assert metric.state_dict() == {}
    assert not metric.z_a[0].requires_grad
    metric.persistent(True)
    assert set(metric.state_dict()) == {"z_a", "z_b", "groups", "keys"}


def test_a_change_of_dtype_leaves_groups_and_keys_whole_numbers():
    a, b = pairs()
    metric, wide = MIBound(num_clusters=8), MIBound(num_clusters=8)
    metric.update(a, b)
    wide.update(a, b)
    wide.set_dtype(torch.float64)
    assert wide.z_a[0].dtype == torch.float64
    assert wide.groups[0].dtype == torch.int64
    assert wide.compute().item() == pytest.approx(metric.compute().item(), abs=1e-3)


def test_a_plot_of_several_values_is_one_line():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    a, b = pairs()
    metric = MIBound(num_clusters=4)
    metric.update(a, b)
    figure, axes = metric.plot([metric.compute(), torch.tensor(1.0)])
    assert len(axes.lines) == 1
    matplotlib.pyplot.close(figure)


SHARES = [[(0, 200), (200, 400)], [(0, 50), (50, 400)], [(0, 0), (0, 400)]]


def _in_shares():
    """For each way to divide 400 pairs: the bound, the pairs, and the rows held after a further update."""
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
        metric.update(a[:5], b[:5])  # after the sync the process has its own rows again
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
