"""Canonical directions against the true correlations."""

import torch

from lightning_mi import mi_bound
from lightning_mi.estimator.cca_quantizer import directions, fit_canonical
from tests.helpers.draws import gaussian


def test_canonical_directions_have_the_true_correlations():
    rho = torch.tensor([0.9, 0.5, 0.1])
    a = torch.randn(20_000, 3)
    b = rho * a + (1 - rho**2).sqrt() * torch.randn(20_000, 3)
    left, right = directions(a @ torch.randn(3, 3), b @ torch.randn(3, 3))
    assert left.shape == right.shape == (3, 3)
    mix_a, mix_b = torch.linalg.qr(torch.randn(3, 3)).Q, torch.linalg.qr(torch.randn(3, 3)).Q
    left, right = directions(a @ mix_a, b @ mix_b)
    u, v = a @ mix_a @ left, b @ mix_b @ right
    correlations = torch.corrcoef(torch.cat([u, v], dim=1).T)[:3, 3:].diagonal()
    torch.testing.assert_close(correlations, rho, atol=0.03, rtol=0)


def test_canonical_finds_what_is_shared_among_louder_noise():
    a, b, truth = gaussian(2000, 2, 0.95)
    a, b = (torch.cat([z, 3 * torch.randn(2000, 20)], dim=1) for z in (a, b))
    assert mi_bound(a, b, 16).bound < 0.1 * truth
    assert 0.5 * truth < mi_bound(a, b, 16, quantizer="canonical").bound < truth


def test_canonical_uses_every_coordinate_where_none_is_shared():
    _, member_of = fit_canonical(torch.randn(400, 3), torch.randn(400, 3), 8)
    assert len(member_of.unique()) == 8
