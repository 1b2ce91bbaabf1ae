"""Linear discriminant analysis (LDA) in closed form: canonical directions, shrunk by validation rows.

Classes share one covariance, shrunk toward a multiple of the identity. In canonical directions (those in which
class means differ most relative to the variance within classes) the discriminant is a sum of one term for each
direction. Means of few rows are farther apart than the true means, so in each direction they are multiplied by the
slope of the regression of validation rows on them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_mi.estimator.linalg import gram, sums_by_class
from lightning_mi.estimator.linear import LinearMap

_PSEUDO_ROWS = 0.5  # added to each class (Krichevsky and Trofimov), so that none has probability 0
_NEWTON_STEPS = 6
_EM_STEPS = 10
_RANK_TOLERANCE = 1e-6  # relative to the strongest direction


@dataclass(frozen=True)
class Moments:
    """Sufficient statistics of a set of rows; those of two sets can be added.

    Attributes:
        gram: ``(D, D)`` float64, sum of the outer products of the rows.
        sums: ``(K, D)`` float64, sum of the rows of each class.
        counts: ``(K,)`` float64, number of rows of each class.
        num_dims: Number of dimensions over which a variance is averaged: D, unless the rows are coordinates in a
            space of fewer, in which all lie (:func:`lightning_mi.estimator.linalg.row_space`).
        dtype: Data type of the rows.
    """

    gram: Tensor
    sums: Tensor
    counts: Tensor
    num_dims: int
    dtype: torch.dtype = torch.float32

    def __add__(self, other: Moments) -> Moments:
        sums, counts = self.sums + other.sums, self.counts + other.counts
        return Moments(self.gram + other.gram, sums, counts, self.num_dims, self.dtype)

    def statistics(self) -> ClassStatistics:
        """Means and covariance. They are differences of large sums, hence float64 until here."""
        num_rows = self.counts.sum().clamp(min=1)
        mean = self.sums.sum(dim=0) / num_rows
        means = torch.where(self.counts[:, None] > 0, self.sums / self.counts[:, None] - mean, 0)
        counts = self.counts + _PSEUDO_ROWS
        covariance = (self.gram / num_rows).addr_(mean, mean, alpha=-1).to(self.dtype)
        return ClassStatistics(
            covariance=covariance,
            variance=covariance.diagonal().sum() / self.num_dims,
            mean=mean.to(self.dtype),
            means=means.to(self.dtype),
            shares=(self.counts / num_rows).to(self.dtype),
            log_prior=(counts / counts.sum()).log().to(self.dtype),
        )


@dataclass(frozen=True)
class ClassStatistics:
    """Means, covariance and class shares of a set of rows.

    Attributes:
        covariance: ``(D, D)``, covariance of all rows.
        variance: Mean variance of the dimensions, a 0-d tensor.
        mean: ``(D,)``, mean of all rows.
        means: ``(K, D)``, class means less ``mean``; zero for a class without rows.
        shares: ``(K,)``, shares of the classes in the rows.
        log_prior: ``(K,)``, log of the shares with half a row added to each class.
    """

    covariance: Tensor
    variance: Tensor
    mean: Tensor
    means: Tensor
    shares: Tensor
    log_prior: Tensor


@dataclass(frozen=True)
class Discriminant:
    """Class means in canonical coordinates ``y = x @ directions - offset``, in which the covariance within
    classes is diagonal.

    Attributes:
        directions: ``(D, R)``, strongest first.
        offset: ``(R,)``.
        means: ``(K, R)``, the class means.
        within: ``(R,)``, variance within classes (the variance of all rows is 1).
        log_prior: ``(K,)``.
    """

    directions: Tensor
    offset: Tensor
    means: Tensor
    within: Tensor
    log_prior: Tensor

    def project(self, x: Tensor) -> Tensor:
        """Canonical coordinates ``(N, R)`` of ``x`` ``(N, D)``."""
        return torch.addmm(-self.offset, x, self.directions)

    def linear(self, slopes: Tensor, temperature: Tensor) -> LinearMap:
        """The map from canonical coordinates to logits, with class means multiplied by ``slopes`` ``(R,)`` and
        differences of log densities by ``temperature``."""
        means = self.means * slopes
        weight = temperature * (means / self.within).T
        return LinearMap(weight, self.log_prior - (weight.T * means).sum(dim=1) / 2)


def moments(x: Tensor, targets: Tensor, num_classes: int, num_dims: int | None = None) -> Moments:
    """The :class:`Moments` of ``x`` ``(N, D)`` with ``targets`` ``(N,)`` int64 below ``num_classes``. ``num_dims``
    is D if it is ``None``."""
    counts = torch.bincount(targets, minlength=num_classes).double()
    sums = sums_by_class(x, targets, num_classes).double()
    return Moments(gram(x), sums, counts, num_dims or x.shape[1], x.dtype)


def discriminant(statistics: ClassStatistics, shrinkage: float) -> Discriminant:
    """The canonical directions of the classes (at most K - 1), with the covariance shrunk by ``shrinkage``.

    With T the covariance of all rows, B that of the class means, t the mean variance and s the shrinkage,
    the directions solve  (1-s) B v = rho^2 ((1-s) T + s t I) v.

    Source:
        Friedman, "Regularized discriminant analysis", JASA 1989; Hastie, Buja, Tibshirani, "Penalized
        discriminant analysis", Annals of Statistics 1995.
    """
    shrunk = statistics.covariance * (1 - shrinkage)
    shrunk.diagonal().add_(shrinkage * statistics.variance.clamp(min=1e-12))
    root = torch.linalg.cholesky_ex(shrunk).L
    whitened = torch.linalg.solve_triangular(root, statistics.means.T, upper=False)  # (D, K)
    between = whitened * ((1 - shrinkage) * statistics.shares).sqrt()
    rank = max(1, min(between.shape[0], between.shape[1] - 1))
    if between.shape[0] <= between.shape[1]:
        rho_squared, basis = torch.linalg.eigh((between @ between.T).double())
        rho_squared, basis = rho_squared.flip(0)[:rank], basis.flip(1)[:, :rank].to(shrunk.dtype)
    else:
        rho_squared, mixture = torch.linalg.eigh((between.T @ between).double())
        rho_squared, mixture = rho_squared.flip(0)[:rank], mixture.flip(1)[:, :rank]
        basis = between @ (mixture / rho_squared.clamp(min=1e-12).sqrt()).to(shrunk.dtype)
    directions = torch.linalg.solve_triangular(root.T, basis, upper=True)
    return Discriminant(
        directions=directions,
        offset=statistics.mean @ directions,
        means=whitened.T @ basis,
        within=(1 - rho_squared).clamp(1e-4, 1).to(shrunk.dtype),
        log_prior=statistics.log_prior,
    )


def fit_class_mean_shrinkage(y: Tensor, targets: Tensor, means: Tensor) -> Tensor:
    """Slope of the regression of ``y`` ``(N, R)`` on the class ``means`` ``(K, R)`` of ``targets`` ``(N,)`` in
    each direction: ``(R,)`` from 0 to 1, non-increasing from the strongest direction to the weakest."""
    expected = means[targets]
    slope = torch.stack([(y * expected).sum(dim=0), expected.square().sum(dim=0)]).double().cpu()
    numerator, denominator = slope
    # A direction without class means (a class had no training row) is rounding error, and so is its slope.
    numerator = torch.where(denominator > _RANK_TOLERANCE * denominator.max(), numerator, 0)
    return _falling(numerator, denominator).clamp(0, 1).to(y)


def fit_temperature(scores: Tensor, log_prior: Tensor, targets: Tensor) -> Tensor:
    """The maximum-likelihood t of softmax(log_prior + t * scores), from 0 (the marginal) to 10, as a 0-d tensor:
    Newton's method on a convex function of ``scores`` ``(N, K)``, ``log_prior`` ``(K,)`` and ``targets`` ``(N,)``.

    Source:
        Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks", ICML 2017 (temperature scaling).
    """
    hit = scores.gather(1, targets[:, None])[:, 0]
    t = scores.new_ones(())
    for _ in range(_NEWTON_STEPS):
        q = (log_prior + t * scores).softmax(dim=1)
        mean = (q * scores).sum(dim=1)
        curvature = ((q * scores.square()).sum(dim=1) - mean.square()).mean()
        step = (hit - mean).mean() / curvature.clamp(min=1e-12)
        t = (t + step.clamp(-1, 1)).clamp(0, 10)
    return t


def fit_marginal_weight(log_q: Tensor, log_marginal: Tensor) -> Tensor:
    """The maximum-likelihood weight e of the mixture (1 - e) q + e * marginal, a 0-d tensor, from the logs
    ``(N,)`` of both at the targets of validation rows.

    One pseudo-row for each component keeps e above 1 / (N + 2), so a target to which the probe gives almost no
    probability costs at most about log N nats more than under the marginal.

    Source:
        Dempster, Laird, Rubin, "Maximum likelihood from incomplete data via the EM algorithm", JRSS B 1977.
    """
    weight = log_q.new_full((), 0.05)
    for _ in range(_EM_STEPS):
        responsibility = (log_marginal - log_q + weight.logit()).sigmoid()
        weight = (responsibility.sum() + 1) / (len(responsibility) + 2)
    return weight


def _falling(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Non-increasing isotonic regression of ``numerator / denominator``, weighted by ``denominator``, by pooling
    adjacent violators."""
    pools: list[list[float]] = []
    for above, below in zip(numerator.tolist(), denominator.clamp(min=1e-30).tolist(), strict=True):
        pools.append([above, below, 1])
        while len(pools) > 1 and pools[-2][0] * pools[-1][1] < pools[-1][0] * pools[-2][1]:
            last = pools.pop()
            pools[-1] = [a + b for a, b in zip(pools[-1], last, strict=True)]
    values = [above / below for above, below, count in pools for _ in range(int(count))]
    return torch.tensor(values, dtype=torch.float64)
