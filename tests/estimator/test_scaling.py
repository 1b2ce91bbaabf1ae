"""Scaling against scipy's winsorised moments, and its invariances."""

import numpy as np
import pytest
import torch
from scipy.stats.mstats import winsorize

from lightning_mi import mi_bound
from lightning_mi.estimator.scaling import fit_scaler


def test_center_and_scale_are_scipys_winsorised_moments():
    x = torch.randn(401, 3).exp()
    scaler = fit_scaler(x)
    inner = np.stack([winsorize(column, limits=4 / 401) for column in x.double().numpy().T])
    np.testing.assert_allclose(scaler.center.numpy(), inner.mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(scaler.scale.numpy(), inner.std(axis=1), rtol=1e-5)


def test_squash_is_the_identity_up_to_two_scales_and_stays_below_five():
    x = torch.randn(400, 2) ** 3
    scaler = fit_scaler(x)
    standard, squashed = scaler.standardize(x).numpy(), scaler.squash(x).numpy()
    tail = np.maximum(np.abs(standard) - 2, 0)
    expected = np.sign(standard) * (np.minimum(np.abs(standard), 2) + tail / (1 + tail / 3))
    np.testing.assert_allclose(squashed, expected, rtol=1e-5, atol=1e-6)
    assert 2 < np.abs(squashed).max() < 5


def test_gaussian_coordinates_come_to_unit_scale():
    x = torch.randn(5000, 3) * torch.tensor([1e-6, 1.0, 1e6]) + torch.tensor([0.0, 5.0, -3e6])
    z = fit_scaler(x).standardize(x)
    assert z.mean(dim=0).abs().max() < 0.1
    torch.testing.assert_close(z.std(dim=0), torch.ones(3), atol=0.1, rtol=0)


def test_one_outlier_does_not_move_the_scale():
    x = torch.randn(2000, 2)
    clean = fit_scaler(x).standardize(x)
    x[0] = 1e8
    z = fit_scaler(x).standardize(x)
    torch.testing.assert_close(z[1:], clean[1:], atol=0.05, rtol=0.05)
    assert torch.isfinite(z).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_rounding_noise_of_a_constant_becomes_zero(dtype):
    eps = torch.finfo(dtype).eps
    x = torch.full((200, 2), 3.0, dtype=torch.float64)
    x[:, 0] += 3 * eps * torch.randint(-1, 2, (200,))
    scaler = fit_scaler(x.to(dtype))
    assert torch.isinf(scaler.scale).all()
    assert (scaler.standardize(x.to(dtype)) == 0).all()
    assert (scaler.center_and_clip(x.to(dtype)) == 0).all()


def test_center_and_clip_keeps_distances_in_proportion():
    x = torch.randn(500, 4) * torch.tensor([1.0, 2.0, 3.0, 4.0]) + 100
    y = fit_scaler(x).center_and_clip(x)
    ratio = torch.cdist(y.double(), y.double())[0, 1:] / torch.cdist(x.double(), x.double())[0, 1:]
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-3, atol=0)


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1.0, 1e6, 1e30])
def test_scale_of_the_input_is_irrelevant(scale):
    x = torch.randn(300, 3)
    torch.testing.assert_close(
        fit_scaler(x * scale).center_and_clip(x * scale), fit_scaler(x).center_and_clip(x), rtol=1e-3, atol=1e-3
    )


def test_a_rare_spike_is_kept():
    x = torch.zeros(1000, 1)
    x[500] = 1.0
    assert fit_scaler(x).standardize(x)[500] > 1


@pytest.mark.parametrize("rows", [10, 512])
def test_the_argument_is_left_as_it_is(rows):
    """A transposed column of float64 needs no copy to be contiguous."""
    x = torch.arange(float(rows), dtype=torch.float64)[:, None] + 5
    before = x.clone()
    fit_scaler(x)
    assert torch.equal(x, before)


def test_one_dimension_of_float64_has_the_bound_of_float32():
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(900, 1, dtype=torch.float64, generator=generator) + 3
    b = a + 0.1 * torch.randn(900, 1, dtype=torch.float64, generator=generator)
    for options in ({}, {"quantizer": "canonical"}, {"bound": "contrastive"}):
        expected = mi_bound(a.float(), b.float(), 16, **options).bound
        assert mi_bound(a, b, 16, **options).bound == pytest.approx(expected, abs=0.02)
