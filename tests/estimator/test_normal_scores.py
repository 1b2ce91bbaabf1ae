"""Normal scores, against scipy's ranks."""

import torch
from scipy import stats

from lightning_mi.estimator.normal_scores import fit_normal_scores


def test_scores_are_those_of_the_ranks():
    x = torch.randn(3000, 3, generator=torch.Generator().manual_seed(0))
    x = torch.stack([x[:, 0].exp(), x[:, 1] ** 3, x[:, 2]], dim=1)
    scores = fit_normal_scores(x)(x)
    ranks = torch.from_numpy(stats.norm.ppf((stats.rankdata(x.numpy(), axis=0) - 0.5) / 3000)).float()
    inner = ranks.abs() < 2
    assert (scores - ranks)[inner].abs().max() < 0.1
    assert (scores.argsort(dim=0) == x.argsort(dim=0)).float().mean() > 0.95  # but for clipped tails


def test_unseen_and_constant_values():
    x = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    x[:, 1] = 3.0
    fitted = fit_normal_scores(x)
    scores = fitted(torch.tensor([[1e9, 3.0], [-1e9, 7.0], [0.0, 3.0]]))
    assert scores.abs().max() <= 4
    assert scores[:2, 0].tolist() == [4, -4]
    assert abs(scores[2, 0]) < 0.2
    assert scores[:, 1].unique().numel() == 1


def test_few_rows():
    x = torch.tensor([[1.0], [2.0], [3.0]])
    scores = fit_normal_scores(x)(x)[:, 0]
    assert scores.isfinite().all()
    assert (scores.diff() > 0).all()
