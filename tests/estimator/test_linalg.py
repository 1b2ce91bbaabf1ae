"""Gram matrices, sums and nearest centroids against plain products, a loop and all distances."""

import pytest
import torch

from lightning_mi.estimator.linalg import gram, nearest, sums_by_class


@pytest.mark.parametrize("shape", [(3, 2), (500, 130), (40_000, 129)])
def test_gram_is_the_product_in_float64(shape):
    x = torch.randn(shape)
    torch.testing.assert_close(gram(x), x.double().T @ x.double(), rtol=1e-4, atol=1e-2)
    assert torch.equal(gram(x), gram(x).T)


def test_sums_by_class_are_those_of_a_loop():
    x, classes = torch.randn(200, 5), torch.randint(4, (200,))
    expected = torch.stack([x[classes == k].sum(dim=0) for k in range(6)])
    torch.testing.assert_close(sums_by_class(x, classes, 6), expected, rtol=1e-4, atol=1e-5)


def test_nearest_is_that_of_all_distances():
    points, centroids = torch.randn(3000, 7), torch.randn(200, 7)
    cost, index = nearest(points, centroids)
    distances = torch.cdist(points.double(), centroids.double()).square()
    assert (index == distances.argmin(dim=1)).float().mean() > 0.998  # ties in float32
    squares = points.double().square().sum(dim=1)
    torch.testing.assert_close(2 * cost.double() + squares, distances.amin(dim=1), rtol=1e-4, atol=1e-4)
