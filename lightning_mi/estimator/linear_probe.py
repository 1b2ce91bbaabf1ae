"""Linear probe q(c | z): a linear discriminant in closed form, refined by softmax regression if that helps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from lightning_mi.estimator.lda import (
    Discriminant,
    discriminant,
    fit_class_mean_shrinkage,
    fit_marginal_weight,
    fit_temperature,
    moments,
)
from lightning_mi.estimator.linear import LinearMap
from lightning_mi.estimator.scaling import RobustScaler, fit_scaler
from lightning_mi.estimator.softmax_regression import lbfgs

SHRINKAGES = (0.01, 0.1, 0.4, 0.8)
_MAX_STEPS = 15  # of the refinement
_PATIENCE_BEFORE_GAIN = 2  # steps without a gain on held-out rows, after which refinement stops
_PATIENCE = 3  # the same, after a first gain
_LEAST_GAIN = 1e-3  # nats, of a step over the best one before, to count as one
_PENALTY = 0.1  # that holds the refinement to the closed form
_LEAST_SLOPE = 1e-3
_FEW_NUMBERS = 1 << 18


@dataclass(frozen=True)
class LinearProbe:
    """A fitted probe.

    Attributes:
        linear: From scaled coordinates to logits; its weight is zero if the probe predicts the marginal.
        marginal_weight: Weight of the marginal in the prediction, a 0-d tensor.
        log_prior: ``(K,)``, log of the marginal.
        scaler: The scaling that stands before it.
        shrinkage: Shrinkage of the covariance, chosen on held-out rows; 1 for the marginal.
        steps: Steps of the solver after the closed form; 0 if they do not help on held-out rows.
        loss: Mean of -log q over the held-out rows that chose all this, in nats; infinite if there were none.
    """

    linear: LinearMap
    marginal_weight: Tensor
    log_prior: Tensor
    scaler: RobustScaler
    shrinkage: float
    steps: int
    loss: float

    def log_prob(self, z: Tensor, targets: Tensor) -> Tensor:
        """log q(c | z) in nats, ``(N,)``, of ``targets`` ``(N,)`` given ``z`` ``(N, D)``."""
        return _mixed(
            -self.linear.cross_entropy(self.scaler.squash(z).to(self.linear.weight.dtype), targets),
            self.marginal_weight,
            self.log_prior[targets],
        )


@dataclass(frozen=True)
class _Settings:
    """Settings chosen on the held-out rows."""

    shrinkage: float
    slopes: Tensor
    temperature: Tensor
    marginal_weight: Tensor

    def start(self, model: Discriminant) -> LinearMap:
        return model.linear(self.slopes, self.temperature)


@dataclass(frozen=True)
class _Attempt:
    """A model of the other rows, its settings, and the mean loss of the held-out rows."""

    loss: float
    settings: _Settings
    model: Discriminant


def fit_probe(z: Tensor, targets: Tensor, num_classes: int, num_train: int) -> LinearProbe:
    """Fit a linear softmax probe.

    The first ``num_train`` rows are fitted, and the others choose how far the covariance is shrunk, how far
    class means are pulled together in each canonical direction, how sharp the prediction is (down to the
    marginal), and how many steps of softmax regression follow. With these choices the probe is fitted to all
    rows.

    Args:
        z: ``(N, D)`` floating-point.
        targets: ``(N,)`` int64, 0 to ``num_classes - 1``.
        num_classes: K.
        num_train: Number of rows before the first that chooses. 0 or N leave no choice: the probe then
            predicts the marginal.

    Example:
        >>> import torch
        >>> z = torch.rand(200, 1, generator=torch.Generator().manual_seed(0))
        >>> probe = fit_probe(z, (z[:, 0] > 0.5).long(), 2, num_train=150)
        >>> probe.log_prob(torch.tensor([[0.9]]), torch.tensor([1])).exp().item() > 0.95
        True
    """
    scaler = fit_scaler(z)
    x = scaler.squash(z).to(_working_dtype(z))
    train, train_targets = x[:num_train], targets[:num_train]
    validation, validation_targets = x[num_train:], targets[num_train:]
    train_moments = moments(train, train_targets, num_classes)
    all_moments = train_moments + moments(validation, validation_targets, num_classes)
    if not 0 < num_train < x.shape[0]:
        log_prior = all_moments.statistics().log_prior
        marginal = LinearMap(x.new_zeros(x.shape[1], num_classes), log_prior)
        return LinearProbe(marginal, x.new_full((), 0.5), log_prior, scaler, 1.0, steps=0, loss=torch.inf)

    train_statistics = train_moments.statistics()

    def attempt(shrinkage: float) -> _Attempt:
        model = discriminant(train_statistics, shrinkage)
        y = model.project(validation)
        slopes = fit_class_mean_shrinkage(y, validation_targets, model.means)
        scores = model.linear(slopes, y.new_ones(()))(y) - model.log_prior
        temperature = fit_temperature(scores, model.log_prior, validation_targets)
        log_q = -model.linear(slopes, temperature).cross_entropy(y, validation_targets)
        marginal_weight = fit_marginal_weight(log_q, model.log_prior[validation_targets])
        loss = -_mixed(log_q, marginal_weight, model.log_prior[validation_targets]).mean()
        return _Attempt(float(loss), _Settings(shrinkage, slopes, temperature, marginal_weight), model)

    chosen = _search(attempt)
    settings = chosen.settings
    steps, gain = _useful_steps(chosen, (train, train_targets), (validation, validation_targets))
    model = discriminant(all_moments.statistics(), settings.shrinkage)
    path = _refine(model, settings, x, targets) if steps else iter([settings.start(model)])
    linear = list(islice(path, steps + 1))[-1]  # the path is shorter if it has converged
    weight = model.directions @ linear.weight
    linear = LinearMap(weight, linear.bias - model.offset @ linear.weight)
    return LinearProbe(
        linear, settings.marginal_weight, model.log_prior, scaler, settings.shrinkage, steps, chosen.loss - gain
    )


def _working_dtype(z: Tensor) -> torch.dtype:
    """Float64 for few numbers: few rows leave the solution loose, and rounding would then change it visibly. Many
    rows determine it, and float32 takes half of the time."""
    few = z.numel() <= _FEW_NUMBERS and z.device.type != "mps"  # which has no float64
    return torch.float64 if few else torch.float32


def _mixed(log_q: Tensor, marginal_weight: Tensor, log_marginal: Tensor) -> Tensor:
    return torch.logaddexp(log_q + torch.log1p(-marginal_weight), log_marginal + marginal_weight.log())


def _useful_steps(
    chosen: _Attempt, train: tuple[Tensor, Tensor], validation: tuple[Tensor, Tensor]
) -> tuple[int, float]:
    """How many steps of the refinement lower the loss of the ``validation`` rows most, and by how much; 0 if the
    gain is within its standard error."""
    settings, model = chosen.settings, chosen.model
    y, targets = model.project(validation[0]), validation[1]
    log_marginal = model.log_prior[targets]

    def losses(linear: LinearMap) -> Tensor:
        return -_mixed(-linear.cross_entropy(y, targets), settings.marginal_weight, log_marginal)

    first = losses(settings.start(model))
    lowest, gain, best = 0.0, first, 0
    for step, linear in enumerate(islice(_refine(model, settings, *train), 1, _MAX_STEPS + 1), start=1):
        change = losses(linear) - first
        mean = float(change.mean())
        if mean < lowest - _LEAST_GAIN:
            lowest, gain, best = mean, change, step
        elif step - best >= (_PATIENCE if best else _PATIENCE_BEFORE_GAIN):
            break
    error = float(gain.std(correction=0)) / max(1, len(targets) - 1) ** 0.5
    return (best, -lowest) if -lowest > error else (0, 0.0)


def _refine(model: Discriminant, settings: _Settings, x: Tensor, targets: Tensor) -> Iterator[LinearMap]:
    """Maps of canonical coordinates, the closed form first."""
    deviation = model.within.sqrt()
    start = settings.start(model)
    start = LinearMap(start.weight * deviation[:, None], start.bias)
    trust = torch.cat([settings.slopes.clamp(min=_LEAST_SLOPE), settings.slopes.new_ones(1)])
    scale = (trust[:, None] / model.log_prior.exp()).sqrt()
    centers = model.means * settings.slopes / deviation
    for linear in lbfgs(model.project(x).div_(deviation), targets, start, scale, centers, _PENALTY):
        yield LinearMap(linear.weight / deviation[:, None], linear.bias)


def _search(attempt: Callable[[float], _Attempt]) -> _Attempt:
    """The best of :data:`SHRINKAGES`, found from the middle of the grid: the loss has one valley."""
    low, high = attempt(SHRINKAGES[1]), attempt(SHRINKAGES[2])
    if low.loss <= high.loss:
        return min(attempt(SHRINKAGES[0]), low, key=lambda tried: tried.loss)
    return min(attempt(SHRINKAGES[3]), high, key=lambda tried: tried.loss)
