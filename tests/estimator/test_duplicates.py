"""Copies of pairs are one group; values of a discrete embedding are not."""

import pytest
import torch
from torchmetrics.wrappers import BootStrapper

from lightning_mi import MIBound, mi_bound
from lightning_mi.estimator.duplicates import group_copies


def test_groups_are_the_first_of_equal_pairs():
    z = torch.randn(40, 20)
    chosen = torch.randint(40, (60,))
    expected = [chosen.tolist().index(row) for row in chosen.tolist()]
    assert group_copies(z[chosen], -z[chosen]).tolist() == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_different_pairs_have_groups_of_their_own(dtype):
    z = torch.randn(500, 64).to(dtype)
    assert torch.equal(group_copies(z, z), torch.arange(500))


def test_codes_and_constants_are_no_copies():
    codes = torch.eye(8)[torch.randint(8, (400,))]
    for z in (codes, torch.ones(400, 3)):
        assert torch.equal(group_copies(z, z), torch.arange(400))
    continuous = torch.randn(400, 2)
    assert torch.equal(group_copies(codes, continuous), torch.arange(400))
    assert mi_bound(codes, codes, 8).bound > 1.9


def test_a_bootstrap_of_independent_pairs_has_no_information():
    metric = BootStrapper(MIBound(num_clusters=16), num_bootstraps=4, sampling_strategy="multinomial")
    metric.update(torch.randn(600, 8), torch.randn(600, 8))
    assert metric.compute()["mean"] < 0.02
