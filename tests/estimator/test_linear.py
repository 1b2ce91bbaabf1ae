"""The linear map against torch.nn.functional, and its blocks."""

import torch
import torch.nn.functional as F

from lightning_mi.estimator.linear import LinearMap, row_blocks


def test_cross_entropy_is_torchs():
    x, targets = torch.randn(700, 6), torch.randint(500, (700,))
    linear = LinearMap(torch.randn(6, 500), torch.randn(500))
    expected = F.cross_entropy(x @ linear.weight + linear.bias, targets, reduction="none")
    torch.testing.assert_close(linear.cross_entropy(x, targets), expected, rtol=1e-5, atol=1e-5)


def test_blocks_are_the_same_rows_of_every_column():
    rows, double = torch.arange(10_000), 2 * torch.arange(10_000)
    blocks = list(row_blocks(5000, rows, double))
    assert len(blocks) > 1
    assert torch.equal(torch.cat([part for part, _ in blocks]), rows)
    assert all(torch.equal(2 * part, twice) for part, twice in blocks)
