import torch

from lightning_mi.estimator.knn_probe import fit_nearest_neighbors
from lightning_mi.estimator.pca_quantizer import fit_whitening


def test_the_nearest_of_another_group_by_brute_force():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(120, 5, generator=generator)
    groups, classes = torch.arange(120) // 2, torch.randint(3, (120,), generator=generator)
    probe = fit_nearest_neighbors(z, classes, 3, groups)
    points = fit_whitening(z)(z)
    table = torch.cdist(points, points)
    table[groups[:, None] == groups] = torch.inf
    shares = torch.tensor([0.01, 0.02, 0.05, 0.1, 0.25, 0.5])
    torch.testing.assert_close(probe.edges, table.amin(dim=1).sort().values[(shares * 120).long()])
    # What it says is a distribution.
    query = torch.randn(7, 5, generator=generator)
    total = sum((probe.log_ratio(query, torch.full((7,), c)) + probe.marginal[c].log()).exp() for c in range(3))
    torch.testing.assert_close(total, torch.ones(7, dtype=torch.float64))
    # A class that it has not met is not said, and costs what was laid on the others.
    other = fit_nearest_neighbors(z, classes, 4, groups)
    torch.testing.assert_close(
        other.log_ratio(query, torch.full((7,), 3)).exp(),
        1 - other.weights[torch.bucketize(torch.cdist(fit_whitening(z)(query), points).amin(dim=1), other.edges)],
    )
    # It hears of no class by its own row alone.
    lonely = fit_nearest_neighbors(z, torch.arange(120), 120, torch.zeros(120, dtype=torch.int64))
    assert float(lonely.weights.max()) < 1e-6
