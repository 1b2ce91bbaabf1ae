"""RankMe, alpha-ReQ, LiDAR and cluster quality against their definitions."""

import math

import numpy as np
import pytest
import torch

pytest.importorskip("torchaudio")
pytest.importorskip("sklearn")

import scipy.linalg
import scipy.stats
from sklearn.metrics import silhouette_score

from lightning_mi.examples.model_selection.scores.baselines import alpha_req, cluster_quality, lidar, rankme


def test_rankme_is_the_entropy_of_the_singular_values():
    z = torch.randn(200, 12) * torch.linspace(0.1, 2, 12)
    values = np.linalg.svd(z.double().numpy(), compute_uv=False)
    assert rankme(z) == pytest.approx(math.exp(scipy.stats.entropy(values)), rel=1e-4)
    assert rankme(torch.randn(50, 1) @ torch.randn(1, 8)) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_alpha_req_finds_the_power_law(alpha):
    deviations = torch.arange(1, 41, dtype=torch.float64) ** (-alpha / 2)
    z = torch.linalg.qr(torch.randn(400, 40, dtype=torch.float64))[0]
    z = torch.cat([z, -z]) * deviations  # centred, and its columns stay orthogonal
    assert alpha_req(z) == pytest.approx(alpha, abs=1e-6)


def test_alpha_req_of_one_direction_is_the_worst():
    assert alpha_req(torch.randn(50, 1) @ torch.ones(1, 4)) == math.inf


def test_lidar_against_its_definition():
    z = torch.randn(60, 1, 5) * torch.tensor([3.0, 2.0, 1.0, 0.5, 0.1]) + torch.randn(60, 4, 5)
    x = z.double().numpy()
    means = x.mean(axis=1)
    between = np.cov(means.T)
    within = sum((row - row.mean(0)).T @ (row - row.mean(0)) for row in x) / (60 * 3)
    root = np.linalg.inv(scipy.linalg.sqrtm(within))
    values = np.linalg.eigvalsh(root @ between @ root)
    expected = math.exp(scipy.stats.entropy(values / values.sum()))
    assert lidar(z, ridge=1e-9) == pytest.approx(expected, rel=1e-4)


def test_cluster_quality_prefers_clusters():
    centres = 10 * torch.randn(6, 8)
    member = torch.arange(600) % 6
    tight = centres[member] + 0.1 * torch.randn(600, 8)
    good, bad = cluster_quality(tight, 6), cluster_quality(torch.randn(600, 8), 6)
    assert all(good[name] > bad[name] for name in good)
    assert good["silhouette"] == pytest.approx(silhouette_score(tight.numpy(), member.numpy()), abs=1e-3)
    total = float((tight - tight.mean(0)).square().sum())
    inside = sum(float((part - part.mean(0)).square().sum()) for part in (tight[member == k] for k in range(6)))
    assert good["explained"] == pytest.approx(1 - inside / total, abs=1e-3)


def test_cluster_quality_of_a_collapsed_model_is_the_worst():
    found = cluster_quality(torch.ones(100, 4), 8)
    assert found["silhouette"] == -1
    assert found["davies_bouldin"] == -math.inf
