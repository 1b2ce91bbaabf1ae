"""Gaussian critic: the density ratio of two embeddings in closed form, by canonical correlations; no clusters.

For jointly Gaussian variables the canonical correlations give p(z_a, z_b) / (p(z_a) p(z_b)) in closed form. As the
critic of a contrastive bound it is valid for any variables. Monotone maps of the coordinates, products and cosines
of them let it see other dependence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from lightning_mi.estimator.cca_quantizer import SHRINKAGES, directions
from lightning_mi.estimator.contrast import contrast
from lightning_mi.estimator.feature_probe import quadratic_features, random_fourier_features
from lightning_mi.estimator.linalg import gram
from lightning_mi.estimator.normal_scores import fit_normal_scores
from lightning_mi.estimator.scaling import fit_scaler

MOST_PARTNERS = 4096  # rows that are compared with one another; its log is the ceiling
_MOST_COMPARED = 1024  # of the validation rows, which choose the settings
_FEWEST_COMPARED = 8
_MOST_DIRECTIONS = 64
_LEADING = 16  # coordinates that are expanded: if there are more, one half principal, the other canonical
_MOST_SCORED = 128  # dimensions up to which normal scores are tried; axes of a wider embedding mean little
_FEW_TEMPERATURES = (1.0, 0.4, 0.1)  # for each attempt
_TEMPERATURES = (1.0, 0.8, 0.6, 0.4, 0.3, 0.2, 0.1)  # for the best
_RANK_TOLERANCE = 1e-6
_STRONGEST = 0.9999  # above which a correlation is not told from 1
_CONSTANT = 0.01  # weight of a ratio of 1 in the critic, below which no ratio falls
_CAP = 20.0  # times the number of partners: a larger ratio would not raise the bound

Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Coordinates:
    """Canonical coordinates of one side: mean 0 and variance 1 on the validation rows.

    Attributes:
        features: The map of embeddings ``(N, D)`` to features ``(N, F)``.
        directions: ``(F, R)``, strongest first.
        center: ``(R,)``.
        deviation: ``(R,)``.
    """

    features: Map
    directions: Tensor
    center: Tensor
    deviation: Tensor

    @staticmethod
    def standardized(features: Map, directions: Tensor, rows: Tensor) -> Coordinates:
        """Those whose mean and deviation are of ``rows`` ``(M, F)``, features of the validation rows."""
        u = rows @ directions
        return Coordinates(features, directions, u.mean(dim=0), u.std(dim=0, correction=0).clamp(min=1e-6))

    def __call__(self, z: Tensor) -> Tensor:
        """The coordinates ``(N, R)`` of ``z`` ``(N, D)``."""
        return self.of_features(self.features(z))

    def of_features(self, rows: Tensor) -> Tensor:
        """The coordinates ``(N, R)`` of features ``(N, F)``."""
        return torch.addmm(-self.center, rows, self.directions).div_(self.deviation)


@dataclass(frozen=True)
class GaussianCritic:
    """A fitted critic.

    Attributes:
        left: Coordinates u of ``z_a``.
        right: Coordinates v of ``z_b``.
        correlation: ``(R,)``, of each pair of coordinates, 0 up to 0.9999.
        temperature: Power of the ratio; 0 is the critic that knows nothing.
    """

    left: Coordinates
    right: Coordinates
    correlation: Tensor
    temperature: float

    def scores(self, z_a: Tensor, z_b: Tensor, groups: Tensor | None = None) -> Tensor:
        """:func:`lightning_mi.estimator.contrast.contrast` of paired rows, with the ratios as its probabilities
        and every row as a class of its own. Rows beyond 4096 are compared with partners in other blocks.

        Args:
            z_a: ``(N, D)`` floating-point, rows that the critic has not seen.
            z_b: ``(N, D')``.
            groups: ``(N,)`` integers; rows of one group stand together.

        Returns:
            ``(N,)`` float64, in nats; their mean is a lower bound on the mutual information.

        Source:
            Oord, Li, Vinyals, "Representation learning with contrastive predictive coding", arXiv:1807.03748;
            Poole et al., "On variational bounds of mutual information", ICML 2019.
        """
        u, v = self.left(z_a), self.right(z_b)
        parts = []
        for rows in _blocks(len(u)):
            some = None if groups is None else groups[rows]
            parts.append(contrastive_scores(u[rows], v[rows], self.correlation, self.temperature, some))
        return torch.cat(parts)


def fit_gaussian_critic(z_a: Tensor, z_b: Tensor, num_train: int, seed: int = 0) -> GaussianCritic:
    """Fit a critic to paired embeddings.

    Canonical directions are found on the first ``num_train`` rows, for three shrinkages of the covariances: of the
    scaled coordinates and, up to 128 dimensions, of their normal scores; then of the canonical coordinates with
    products, and with random cosines, of the leading ones. The other rows, the validation rows, measure the
    correlations and choose between all of these, and the temperature, by the bound that they reach there. What
    comes later in this order must be better by a standard error. With these settings the directions are found
    again on all rows.

    Args:
        z_a: ``(N, D)`` floating-point.
        z_b: ``(N, D')`` floating-point; row i belongs to row i of ``z_a``.
        num_train: Number of training rows.
        seed: Seed of the search for directions.

    Raises:
        ValueError: If there are fewer than 8 training or validation rows.

    Source:
        Hotelling, "Relations between two sets of variates", Biometrika 1936, for the correlations; Gelfand and
        Yaglom, "Calculation of the amount of information about a random function", 1957, for the Gaussian case.

    Example:
        >>> import torch
        >>> z_a, noise = torch.randn(2, 4000, 2, generator=torch.Generator().manual_seed(0))
        >>> z_b = z_a + 0.5 * noise
        >>> critic = fit_gaussian_critic(z_a[:2000], z_b[:2000], num_train=1500)
        >>> 1.5 < critic.scores(z_a[2000:], z_b[2000:]).mean().item() < 1.7  # the truth is log 5 = 1.61
        True
    """
    rows = z_a, z_b
    scaled: list[Map] = [fit_scaler(z).squash for z in rows]
    sides = [
        Coordinates(side, z.new_zeros(z.shape[1], 1).float(), *z.new_tensor([[0.0], [1.0]]).float())
        for side, z in zip(scaled, rows, strict=True)
    ]
    nothing = GaussianCritic(sides[0], sides[1], sides[0].center, temperature=0.0)
    num_validation = z_a.shape[0] - num_train
    if min(num_train, num_validation) < _FEWEST_COMPARED:
        raise ValueError(
            f'`bound="contrastive"` needs {_FEWEST_COMPARED} pairs or more to choose the critic on, got '
            f"{num_validation}, and {num_train} to train it on, of the {num_train + num_validation} that are not "
            f"scored. Give about {_FEWEST_COMPARED * 8} pairs or more, of several groups, or take "
            '`bound="clusters"`.'
        )
    best = _Attempt(nothing, z_a.new_zeros(min(num_validation, _MOST_COMPARED), dtype=torch.float64))
    sets = [scaled]
    if max(z.shape[1] for z in rows) <= _MOST_SCORED:
        sets.append([fit_normal_scores(z) for z in rows])
    for maps in sets:
        x = [side(z) for side, z in zip(maps, rows, strict=True)]
        linear = list(_attempts(maps, x, num_train, seed))
        strongest = max(linear, key=lambda attempt: float(attempt.scores.mean())).critic
        for attempt in linear:
            best = attempt.unless(best)
        for expand in (quadratic_features, random_fourier_features):
            added = [
                _Expansion.of(z[:num_train], own.directions, expand)
                for z, own in zip(x, (strongest.left, strongest.right), strict=True)
            ]
            richer: list[Map] = [partial(_both, *each) for each in zip(maps, added, strict=True)]
            features = [more(z) for more, z in zip(added, x, strict=True)]
            for attempt in _attempts(richer, features, num_train, seed):
                best = attempt.unless(best)
    if best.critic is nothing:
        return nothing
    compared = slice(num_train, num_train + _MOST_COMPARED)
    u, v = best.critic.left(z_a[compared]), best.critic.right(z_b[compared])
    return _refitted(_at_best_temperature(best, u, v, _TEMPERATURES), z_a, z_b, seed)


def contrastive_scores(
    u: Tensor, v: Tensor, correlation: Tensor, temperature: float, groups: Tensor | None = None
) -> Tensor:
    """Scores ``(N,)`` float64 of paired coordinates ``u`` and ``v``, ``(N, R)``: :meth:`GaussianCritic.scores`.

    Example:
        >>> import torch
        >>> u = torch.tensor([[-1.0], [0.0], [1.0]])
        >>> contrastive_scores(u, u, torch.tensor([0.9]), 0.0).abs().max().item()
        0.0
    """
    ratios = density_ratios(u, v, correlation, temperature)
    ratios = ratios.clamp_(max=_CAP * len(u)).mul_(1 - _CONSTANT).add_(_CONSTANT)
    return contrast(ratios, torch.arange(len(u), device=u.device), groups)


def density_ratios(u: Tensor, v: Tensor, correlation: Tensor, temperature: float = 1.0) -> Tensor:
    """p(u, v) / (p(u) p(v)) of every row of ``u`` ``(N, R)`` with every row of ``v`` ``(M, R)``: ``(N, M)``.

    The coordinates are standard normal, and each pair of them has its own ``correlation`` rho ``(R,)``. The
    exponent is multiplied by the ``temperature`` t, and the ratio scaled so that its mean over u is 1 again:

        t (rho u v - rho^2 (u^2 + v^2) / 2) / (1 - rho^2) + ...

    Example:
        >>> import torch
        >>> x = torch.linspace(-6, 6, 1201)[:, None]
        >>> density = torch.distributions.Normal(0.0, 1.0).log_prob(x).exp()
        >>> ratios = density_ratios(x, torch.tensor([[1.5]]), torch.tensor([0.8]), temperature=0.7)
        >>> round((density * ratios).sum().item() / 100, 3)  # 100 steps in 1
        1.0
    """
    spread = temperature * correlation.square() / (1 - correlation.square())
    product = temperature * correlation / (1 - correlation.square())
    by_column = (torch.log1p(spread) - product.square() / (1 + spread) * v.square()).sum(dim=1) / 2
    by_row = u.square() @ spread / 2
    return torch.addmm(by_column, u * product, v.T).sub_(by_row[:, None]).clamp_(max=80).exp_()


def partners(num_rows: int, device: torch.device) -> Tensor:
    """``(N,)`` int64, the number of each scored row among those that it is compared with.

    Example:
        >>> partners(3, torch.device("cpu")).tolist()
        [0, 1, 2]
    """
    return torch.cat([torch.arange(rows.stop - rows.start, device=device) for rows in _blocks(num_rows)])


def most_compared(num_rows: int) -> int:
    """Of ``num_rows`` scored rows, how many are compared with one another: the largest block.

    Example:
        >>> most_compared(2048), most_compared(10_000)
        (2048, 3334)
    """
    return max(rows.stop - rows.start for rows in _blocks(num_rows))


def _blocks(num_rows: int) -> list[slice]:
    """Blocks of at most 4096 rows, nearly equal."""
    number = max(1, -(-num_rows // MOST_PARTNERS))
    cuts = [num_rows * block // number for block in range(number + 1)]
    return [slice(*ends) for ends in pairwise(cuts)]


@dataclass(frozen=True)
class _Attempt:
    """A critic, its scores of the validation rows ``(M,)``, and the number of its shrinkage."""

    critic: GaussianCritic
    scores: Tensor
    number: int = 0

    def unless(self, best: _Attempt) -> _Attempt:
        """This one if it is better than ``best`` by a standard error, or by two if ``best`` knows nothing."""
        gain = self.scores - best.scores
        error = float(gain.std()) / math.sqrt(len(gain))
        return self if float(gain.mean()) > error * (1 if best.critic.temperature else 2) else best


def _attempts(maps: list[Map], features: list[Tensor], num_train: int, seed: int) -> Iterator[_Attempt]:
    """A critic for each shrinkage, on ``features`` ``(N, F)`` of both sides, which ``maps`` make of embeddings."""
    deviation = [_deviation(each[:num_train]) for each in features]
    train = [each[:num_train] / own for each, own in zip(features, deviation, strict=True)]
    validation = [each[num_train:] for each in features]
    num_rows = len(validation[0])
    for number, found in enumerate(directions(train[0], train[1], _MOST_DIRECTIONS, seed)):
        left, right = (
            Coordinates.standardized(side, own / scale[:, None], rows)
            for side, own, scale, rows in zip(maps, (found.left, found.right), deviation, validation, strict=True)
        )
        u, v = left.of_features(validation[0]), right.of_features(validation[1])
        correlation = (u * v).mean(dim=0)
        # Less what independent variables would have; one below a standard error of theirs counts as 0.
        squared = ((correlation.square() - 1 / num_rows) / (1 - 1 / num_rows)).clamp(min=0)
        correlation = torch.where(correlation > num_rows**-0.5, squared.sqrt(), 0).clamp(max=_STRONGEST)
        u, v = u[:_MOST_COMPARED], v[:_MOST_COMPARED]
        attempt = _Attempt(GaussianCritic(left, right, correlation, 1.0), u.new_zeros(len(u)), number)
        yield _at_best_temperature(attempt, u, v, _FEW_TEMPERATURES)


def _refitted(attempt: _Attempt, z_a: Tensor, z_b: Tensor, seed: int) -> GaussianCritic:
    """The critic with directions of all rows. What the validation rows have measured of those of the training rows
    stays: the correlation of the strongest pair, of the second, ..., and the deviations."""
    critic = attempt.critic
    features = critic.left.features(z_a), critic.right.features(z_b)
    deviation = [_deviation(each) for each in features]
    scaled = [each / own for each, own in zip(features, deviation, strict=True)]
    shrinkages = SHRINKAGES[: attempt.number + 1]
    *_, found = directions(scaled[0], scaled[1], _MOST_DIRECTIONS, seed, shrinkages)
    measured = len(critic.correlation)  # if there were fewer training rows than directions now

    def refitted(old: Coordinates, new: Tensor, rows: Tensor, scale: Tensor) -> Coordinates:
        new = (new / scale[:, None])[:, :measured]
        return replace(old, directions=new, center=rows.mean(dim=0) @ new)

    left = refitted(critic.left, found.left, features[0], deviation[0])
    right = refitted(critic.right, found.right, features[1], deviation[1])
    return replace(critic, left=left, right=right)


def _both(first: Map, second: Map, z: Tensor) -> Tensor:
    return second(first(z))


def _at_best_temperature(attempt: _Attempt, u: Tensor, v: Tensor, temperatures: Sequence[float]) -> _Attempt:
    """The same critic with that of ``temperatures`` which gives the highest bound of validation rows."""
    critic = attempt.critic
    scores = [contrastive_scores(u, v, critic.correlation, each) for each in temperatures]
    most = int(torch.stack([each.mean() for each in scores]).argmax())
    return _Attempt(replace(critic, temperature=temperatures[most]), scores[most], attempt.number)


@dataclass(frozen=True)
class _Expansion:
    """Canonical coordinates, and products or cosines of the leading ones.

    Attributes:
        canonical: ``(D, R)``.
        leading: ``(D, L)``: the 16 principal directions, or 8 and as many canonical ones if there are more.
        expand: The map from leading coordinates ``(N, L)`` to features ``(N, F)``.
    """

    canonical: Tensor
    leading: Tensor
    expand: Map

    @staticmethod
    def of(train: Tensor, canonical: Tensor, expand: Map) -> _Expansion:
        """That whose leading directions are of the rows ``train`` ``(N, D)``."""
        leading = _leading(train)
        if train.shape[1] > _LEADING:
            leading = torch.cat([leading[:, : _LEADING // 2], canonical[:, : _LEADING // 2]], dim=1)
        return _Expansion(canonical, leading, expand)

    def __call__(self, x: Tensor) -> Tensor:
        """The features ``(N, R + F)`` of ``x`` ``(N, D)``."""
        return torch.cat([x @ self.canonical, self.expand(x @ self.leading)], dim=1)


def _deviation(x: Tensor) -> Tensor:
    """Standard deviation of each column of ``x`` ``(N, F)``; infinite if it is rounding error."""
    deviation = x.std(dim=0)
    return torch.where(deviation > _RANK_TOLERANCE * x.abs().amax(dim=0), deviation, torch.inf)


def _leading(x: Tensor) -> Tensor:
    """Directions ``(D, R)`` of the leading principal coordinates, which get variance 1."""
    rows = x - x.mean(dim=0)
    noise = torch.randn(x.shape[1], min(_LEADING, *x.shape), generator=torch.Generator().manual_seed(0))
    basis = torch.linalg.qr(rows.T @ (rows @ noise.to(x))).Q
    values, mixture = torch.linalg.eigh(gram(rows @ basis) / x.shape[0])
    alive = values > _RANK_TOLERANCE * values.max()
    scale = torch.where(alive, values.clamp(min=1e-30).rsqrt(), 0)
    return (basis @ (mixture * scale).to(x)).flip(1)  # the largest first
