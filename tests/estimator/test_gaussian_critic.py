"""The contrastive bound: against brute force, known mutual information, and cases where it must be 0."""

import math

import pytest
import torch

from lightning_mi import MIBound, mi_bound
from lightning_mi.estimator import gaussian_critic
from lightning_mi.estimator.gaussian_critic import contrastive_scores, density_ratios


def contrastive(z_a, z_b, **options):
    return mi_bound(z_a, z_b, bound="contrastive", **options)


def gaussian(num_rows, dim, correlation, seed):
    z_a, noise = torch.randn(2, num_rows, dim, generator=torch.Generator().manual_seed(seed))
    return z_a, correlation * z_a + (1 - correlation**2) ** 0.5 * noise, -dim / 2 * math.log(1 - correlation**2)


def test_ratios_are_those_of_gaussian_densities():
    rho = torch.tensor([0.6, 0.0, 0.9])
    u, v = torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(0))
    normal = torch.distributions.Normal
    expected = torch.zeros(7, 7)
    for each in range(3):
        mean, deviation = rho[each] * u[:, each, None], (1 - rho[each] ** 2) ** 0.5
        expected += normal(mean, deviation).log_prob(v[:, each]) - normal(0.0, 1.0).log_prob(v[:, each])
    torch.testing.assert_close(density_ratios(u, v, rho).log(), expected, rtol=1e-4, atol=1e-4)


def test_scores_are_those_of_the_whole_matrix_by_hand():
    u, noise = torch.randn(2, 40, 2, generator=torch.Generator().manual_seed(0))
    v, rho = 0.8 * u + 0.6 * noise, torch.tensor([0.8, 0.8])
    ratios = 0.99 * density_ratios(u, v, rho).double().clamp(max=800) + 0.01
    expected = ratios.diag().log() - ratios.mean(dim=0).log()
    scores = contrastive_scores(u, v, rho, 1.0)
    assert scores.mean().item() == pytest.approx(expected.mean().item(), abs=1e-6)
    # The error is the spread over rows that are drawn again.
    bounds = []
    generator = torch.Generator().manual_seed(1)
    for _ in range(150):
        u, noise = torch.randn(2, 225, 2, generator=generator)
        bounds.append(contrastive_scores(u, 0.8 * u + 0.6 * noise, rho, 1.0))
    spread = torch.stack([each.mean() for each in bounds]).std().item()
    error = torch.stack([each.std() / 15 for each in bounds]).mean().item()
    assert 0.85 < error / spread < 1.15


def test_many_rows_are_compared_in_blocks(monkeypatch):
    z_a, z_b, _ = gaussian(600, 2, 0.8, 0)
    whole = contrastive(z_a, z_b)
    monkeypatch.setattr(gaussian_critic, "MOST_PARTNERS", 100)
    parts = contrastive(z_a, z_b)
    assert whole.ceiling == pytest.approx(math.log(300))
    assert parts.ceiling == pytest.approx(math.log(100))
    assert parts.entropy == pytest.approx(parts.ceiling)
    assert parts.bound == pytest.approx(whole.bound, abs=0.02)


@pytest.mark.parametrize("dim", [1, 2])
def test_no_draw_is_far_off(dim):
    # Unbounded critics score single rows at hundreds of nats below 0.
    for seed in range(10):
        z_a, z_b, truth = gaussian(300, dim, 0.95, seed)
        estimate = contrastive(z_a**3, z_b)
        assert 0.4 * truth < estimate.bound < truth + 2 * estimate.stderr
        assert estimate.stderr < 0.5


@pytest.mark.parametrize(("dim", "correlation", "least"), [(1, 0.8, 0.95), (4, 0.6, 0.9), (16, 0.3, 0.7)])
def test_gaussians_are_bounded_below_and_nearly_reached(dim, correlation, least):
    estimates = []
    for seed in range(4):
        z_a, z_b, truth = gaussian(2000, dim, correlation, seed)
        estimates.append(contrastive(z_a, z_b))
    mean = sum(each.bound for each in estimates) / 4
    error = sum(each.stderr**2 for each in estimates) ** 0.5 / 4
    assert least * truth < mean < truth + 2 * error


def test_clusters_find_less_in_many_dimensions():
    z_a, z_b, truth = gaussian(2000, 16, 0.7, 0)
    assert mi_bound(z_a, z_b, num_clusters=32, quantizer="canonical").bound < 0.5 * truth
    assert 0.7 * truth < contrastive(z_a, z_b).bound < truth


@pytest.mark.parametrize("dim", [2, 64, 600])
def test_independent_pairs_have_none(dim):
    for seed in range(3):
        z_a, z_b = torch.randn(2, 600, dim, generator=torch.Generator().manual_seed(seed))
        assert contrastive(z_a, z_b).bound < 0.02


def test_monotone_maps_of_the_coordinates_leave_the_bound_as_it_is():
    z_a, z_b, truth = gaussian(2000, 2, 0.7, 0)  # monotone maps of each coordinate leave the information as it is
    estimate = contrastive(z_a.sinh().sinh(), z_b.exp())
    assert 0.9 * truth < estimate.bound < truth + 2 * estimate.stderr


def test_even_dependence_is_found():
    z_a, noise = torch.randn(2, 2000, 2, generator=torch.Generator().manual_seed(0))
    estimate = contrastive(z_a, z_a.abs() + 0.3 * noise)
    assert estimate.bound > 0.5
    assert mi_bound(z_a, z_a.abs() + 0.3 * noise, num_clusters=16).bound < 0.1


def test_the_ceiling_is_the_log_of_the_partners():
    z = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    estimate = contrastive(z, z)
    assert estimate.ceiling == pytest.approx(math.log(150))
    assert 0.5 * estimate.ceiling < estimate.bound <= estimate.ceiling
    assert estimate.bound == pytest.approx(estimate.entropy - estimate.cross_entropy)


def test_rows_of_a_group_are_on_one_side():
    generator = torch.Generator().manual_seed(0)
    z_a = torch.randn(40, 200, generator=generator).repeat_interleave(10, dim=0)  # names the group, no more
    z_b = torch.randn(40, 200, generator=generator).repeat_interleave(10, dim=0)
    groups = torch.arange(40).repeat_interleave(10)
    assert contrastive(z_a, z_b, groups=groups).bound < 0.05
    assert contrastive(z_a, z_b, groups=torch.arange(400)).bound > 1


def test_few_rows_are_told_and_collapsed_rows_give_0():
    z = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match=r"needs 8 pairs or more to choose the critic on, got 5"):
        contrastive(z, z)
    with pytest.raises(ValueError, match=r"of several groups"):
        contrastive(z, z, groups=torch.arange(40) % 2)
    same = torch.ones(100, 3)
    assert contrastive(same, same, groups=torch.arange(100)).bound == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("num_rows", "dim"), [(200, 2), (400, 64)])
def test_without_information_there_is_no_gain(num_rows, dim):
    """A critic chosen on few rows may score far below 0."""
    significant = 0
    for seed in range(12):
        generator = torch.Generator().manual_seed(seed)
        first, second = (contrastive(*torch.randn(2, num_rows, dim, generator=generator)) for _ in range(2))
        gain, stderr = first.gain_over(second)
        assert abs(gain) <= max(first.bound, second.bound) + 1e-9
        significant += abs(gain) > 2 * stderr
    assert significant <= 2


def test_the_metric_gives_the_same_number():
    z_a, z_b, _ = gaussian(300, 3, 0.8, 0)
    metric = MIBound(bound="contrastive")
    metric.update(z_a[:100], z_b[:100])
    metric.update(z_a[100:], z_b[100:])
    assert metric.compute().item() == pytest.approx(contrastive(z_a, z_b).bound)


def test_a_wrong_name_is_told():
    with pytest.raises(ValueError, match=r"`bound` must be one of 'clusters', 'contrastive', got 'infonce'"):
        mi_bound(torch.randn(9, 2), torch.randn(9, 2), bound="infonce")
