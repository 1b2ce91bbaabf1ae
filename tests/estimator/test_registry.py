"""What each quantiser and each probe is for, against closed forms and brute force."""

import math

import pytest
import torch

from lightning_mi import labeled_mi_bound, mi_bound
from lightning_mi.estimator.cca_quantizer import directions, fit_canonical
from lightning_mi.estimator.feature_probe import products
from lightning_mi.estimator.kmeans import fit_kmeans
from lightning_mi.estimator.pca_quantizer import fit_whitened
from lightning_mi.estimator.registry import PROBES, QUANTIZERS


def gaussian(num, dim, rho):
    a = torch.randn(num, dim)
    return a, rho * a + math.sqrt(1 - rho**2) * torch.randn(num, dim), -dim / 2 * math.log(1 - rho**2)


@pytest.mark.parametrize("quantizer", QUANTIZERS)
@pytest.mark.parametrize("probe", PROBES)
def test_every_choice_stays_below_the_truth_and_says_nothing_of_nothing(quantizer, probe):
    a, b, truth = gaussian(1500, 3, 0.9)
    estimate = mi_bound(a, b, 16, quantizer=quantizer, probe=probe)
    assert 0.5 * truth < estimate.bound < truth
    apart = mi_bound(a, b[torch.randperm(1500)], 16, quantizer=quantizer, probe=probe)
    assert apart.bound <= 3 * apart.stderr


@pytest.mark.parametrize("quantizer", QUANTIZERS)
@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("rows", [4, 60])
def test_every_choice_takes_degenerate_embeddings(quantizer, probe, rows):
    constant, line = torch.ones(rows, 40), torch.randn(rows, 1) @ torch.randn(1, 40)
    assert mi_bound(constant, constant, 2, quantizer=quantizer, probe=probe).bound == 0
    assert mi_bound(line, line, 2, quantizer=quantizer, probe=probe).bound <= math.log(2)
    assert mi_bound(line, line, 2, torch.arange(rows) // (rows // 2), quantizer=quantizer, probe=probe).bound < 0.7


def test_whitening_sees_a_small_direction():
    loud, quiet = 4 * torch.randn(2000, 1), torch.randn(2000, 1)
    z = torch.cat([loud, quiet], dim=1) @ torch.linalg.qr(torch.randn(2, 2)).Q

    def told_of_the_quiet(member_of):
        means = torch.stack([quiet[member_of == k].mean() for k in range(8)])
        return means[member_of].var() / quiet.var()

    assert told_of_the_quiet(fit_whitened(z, 8)[1]) > 0.5 > told_of_the_quiet(fit_kmeans(z, 8)[1])


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


@pytest.mark.parametrize("probe", ["quadratic", "fourier"])
def test_richer_probes_see_a_circle(probe):
    z = torch.randn(2000, 3)
    labels = (z[:, :2].norm(dim=1) > 1.1774).long()  # half of the rows
    assert labeled_mi_bound(z, labels).bound < 0.02
    assert labeled_mi_bound(z, labels, probe=probe).bound > 0.3


def test_products_are_all_of_degree_two():
    u = torch.randn(10, 4)
    assert products(u).shape == (10, 10)
    torch.testing.assert_close(products(u).sum(dim=1) * 2 - u.square().sum(dim=1), u.sum(dim=1).square())


@pytest.mark.parametrize("name", ["quantizer", "probe"])
def test_unknown_words_are_answered_with_the_known_ones(name):
    z = torch.randn(50, 2)
    with pytest.raises(ValueError, match=rf"`{name}` must be one of '\w+', '\w+', '\w+', got 'kmean'"):
        mi_bound(z, z, 2, **{name: "kmean"})
