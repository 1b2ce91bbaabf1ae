"""The threads of the user are as they were, behind an estimate and behind a failure."""

import pytest
import torch

from lightning_mi import labeled_mi_bound, mi_bound
from lightning_mi.estimator import bound
from lightning_mi.estimator.shuffled_bound import null_bound
from lightning_mi.threads import few_threads


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
def test_an_estimate_works_in_one_thread_and_leaves_them(monkeypatch):
    seen = []

    def cross_fit(*arguments):
        seen.append(torch.get_num_threads())
        raise RuntimeError("as a model's embeddings might")

    z = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    mi_bound(z, z, 4)
    labeled_mi_bound(z, torch.arange(64) % 2)
    null_bound(z, z, torch.arange(64), num_clusters=4)
    assert torch.get_num_threads() == 3
    monkeypatch.setattr(bound, "cross_fit", cross_fit)
    with pytest.raises(RuntimeError, match="might"):
        mi_bound(z, z, 4)
    assert seen == [1]
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize(("num_elements", "expected"), [(0, 1), (1 << 23, 1), (1 << 24, 2), (1 << 40, 3)])
def test_threads_grow_with_the_work_up_to_the_users_number(num_elements, expected):
    with few_threads(num_elements):
        assert torch.get_num_threads() == expected
    assert torch.get_num_threads() == 3
