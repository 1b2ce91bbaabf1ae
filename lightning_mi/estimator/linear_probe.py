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
from lightning_mi.estimator.linalg import row_space
from lightning_mi.estimator.linear import LinearMap
from lightning_mi.estimator.scaling import RobustScaler, fit_scaler
from lightning_mi.estimator.softmax_regression import lbfgs

SHRINKAGES = (0.01, 0.1, 0.4, 0.8)
_MAX_STEPS = 15  # of softmax regression, the refinement
_PATIENCE_BEFORE_GAIN = 2  # steps without a gain on validation rows, after which refinement stops
_PATIENCE = 3  # the same, after a first gain
_LEAST_GAIN = 1e-3  # nats by which a step must improve on the best one before
_PENALTY = 0.1  # on the distance of the refinement from the closed form
_LEAST_SLOPE = 1e-3
_FEW_NUMBERS = 1 << 18  # elements of z up to which float64 is used


@dataclass(frozen=True)
class LinearProbe:
    """A fitted probe.

    Attributes:
        linear: The map from scaled coordinates to logits; its weight is zero if the probe predicts the marginal.
        marginal_weight: Weight of the marginal in the prediction, a 0-d tensor.
        log_prior: ``(K,)``, log of the marginal.
        scaler: The scaling that is applied first.
        shrinkage: Shrinkage of the covariance, chosen by validation rows; 1 for the marginal.
        steps: Steps of softmax regression after the closed form; 0 if they do not lower the validation loss.
        loss: Mean of -log q over the validation rows, in nats; infinite if there were none.
    """

    linear: LinearMap
    marginal_weight: Tensor
    log_prior: Tensor
    scaler: RobustScaler
    shrinkage: float
    steps: int
    loss: float

    def probabilities(self, z: Tensor) -> Tensor:
        """q(c | z) of every class given ``z`` ``(N, D)``: ``(N, K)``."""
        q = self.linear.probabilities(self.scaler.squash(z).to(self.linear.weight.dtype))
        return q.lerp_(self.log_prior.exp(), self.marginal_weight)


@dataclass(frozen=True)
class _Settings:
    """Settings that the validation rows choose."""

    shrinkage: float
    slopes: Tensor
    temperature: Tensor
    marginal_weight: Tensor

    def start(self, model: Discriminant) -> LinearMap:
        return model.linear(self.slopes, self.temperature)


@dataclass(frozen=True)
class _Attempt:
    """A model of the training rows, its settings, and its mean loss on the validation rows."""

    loss: float
    settings: _Settings
    model: Discriminant


def fit_probe(z: Tensor, targets: Tensor, num_classes: int, num_train: int) -> LinearProbe:
    """Fit a linear softmax probe.

    A linear discriminant is fitted to the first ``num_train`` rows. The others, the validation rows, choose the
    shrinkage of the covariance, the shrinkage of the class means in each canonical direction, the temperature and
    marginal weight of the prediction, and the number of steps of softmax regression that follow. With these
    settings the probe is fitted to all rows.

    Args:
        z: ``(N, D)`` floating-point.
        targets: ``(N,)`` int64, 0 to ``num_classes - 1``.
        num_classes: K.
        num_train: Number of training rows. With 0 or N, which leave no training or no validation rows, the probe
            predicts the marginal.

    Example:
        >>> import torch
        >>> z = torch.rand(200, 1, generator=torch.Generator().manual_seed(0))
        >>> probe = fit_probe(z, (z[:, 0] > 0.5).long(), 2, num_train=150)
        >>> probe.probabilities(torch.tensor([[0.9]]))[0, 1].item() > 0.95
        True
    """
    scaler = fit_scaler(z)
    x = scaler.squash(z).to(_working_dtype(z))
    # The class means and the covariance, hence all directions, lie in the space of the rows.
    basis = row_space(x)
    if basis is not None:
        x = x @ basis
    train, train_targets = x[:num_train], targets[:num_train]
    validation, validation_targets = x[num_train:], targets[num_train:]
    num_dims = z.shape[1]
    train_moments = moments(train, train_targets, num_classes, num_dims)
    all_moments = train_moments + moments(validation, validation_targets, num_classes, num_dims)
    if not 0 < num_train < x.shape[0]:
        log_prior = all_moments.statistics().log_prior
        marginal = LinearMap(x.new_zeros(num_dims, num_classes), log_prior)
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
    linear = LinearMap(weight if basis is None else basis @ weight, linear.bias - model.offset @ linear.weight)
    return LinearProbe(
        linear, settings.marginal_weight, model.log_prior, scaler, settings.shrinkage, steps, chosen.loss - gain
    )


def _working_dtype(z: Tensor) -> torch.dtype:
    """Float64 for few elements: with few rows the solution is ill-determined, and rounding in float32 would show
    in the bound. With many rows float32 suffices and takes half of the time."""
    few = z.numel() <= _FEW_NUMBERS and z.device.type != "mps"  # which has no float64
    return torch.float64 if few else torch.float32


def _mixed(log_q: Tensor, marginal_weight: Tensor, log_marginal: Tensor) -> Tensor:
    return torch.logaddexp(log_q + torch.log1p(-marginal_weight), log_marginal + marginal_weight.log())


def _useful_steps(
    chosen: _Attempt, train: tuple[Tensor, Tensor], validation: tuple[Tensor, Tensor]
) -> tuple[int, float]:
    """Number of steps of the refinement with the lowest ``validation`` loss, and the gain in nats; 0 steps if the
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
    """The best of :data:`SHRINKAGES` by three attempts: the loss is taken to be unimodal in the shrinkage."""
    low, high = attempt(SHRINKAGES[1]), attempt(SHRINKAGES[2])
    if low.loss <= high.loss:
        return min(attempt(SHRINKAGES[0]), low, key=lambda tried: tried.loss)
    return min(attempt(SHRINKAGES[3]), high, key=lambda tried: tried.loss)
