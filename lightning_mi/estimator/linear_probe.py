"""The linear probe q(c | z): the discriminant's closed form, polished as far as that helps on unseen groups."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from lightning_mi.estimator.lda import (
    Discriminant,
    discriminant,
    held_out_lapse,
    held_out_slopes,
    held_out_temperature,
    moments,
)
from lightning_mi.estimator.linear import LinearMap
from lightning_mi.estimator.scaling import RobustScaler, fit_scaler
from lightning_mi.estimator.softmax_regression import descend

SHRINKAGES = (0.01, 0.1, 0.4, 0.8)
_MAX_STEPS = 15  # of the polish
_HOPE = 2  # steps without any gain on held-out rows, after which it is given up
_PATIENCE = 3  # the same, after a first gain
_LEAST_GAIN = 1e-3  # nats, of a step over the best one before, to count as one
_PENALTY = 0.1  # that holds the polish to the closed form
_LEAST_SLOPE = 1e-3
_FEW_NUMBERS = 1 << 18


@dataclass(frozen=True)
class LinearProbe:
    """A fitted probe.

    Attributes:
        linear: From scaled coordinates to logits; its weight is zero where the probe says the marginal.
        lapse: Share of the prediction that is the marginal, whatever the embedding, a 0-d tensor.
        log_prior: ``(K,)``, log of the marginal.
        scaler: The scaling that stands before it.
        shrinkage: Of the covariance, chosen on held-out rows; 1 for the marginal.
        steps: Of the solver after the closed form, 0 where they do not help on held-out rows.
        loss: Mean of -log q over the held-out rows, in nats, that chose all this; infinite where there were none.
    """

    linear: LinearMap
    lapse: Tensor
    log_prior: Tensor
    scaler: RobustScaler
    shrinkage: float
    steps: int
    loss: float

    def log_prob(self, z: Tensor, targets: Tensor) -> Tensor:
        """log q(c | z) in nats, ``(N,)``, of ``targets`` ``(N,)`` given ``z`` ``(N, D)``."""
        return _mixed(
            -self.linear.cross_entropy(self.scaler.squash(z).to(self.linear.weight.dtype), targets),
            self.lapse,
            self.log_prior[targets],
        )


@dataclass(frozen=True)
class _Settings:
    """What the held-out rows choose."""

    shrinkage: float
    slopes: Tensor
    temperature: Tensor
    lapse: Tensor

    def start(self, model: Discriminant) -> LinearMap:
        return model.linear(self.slopes, self.temperature)


@dataclass(frozen=True)
class _Attempt:
    """A model of the other rows, its settings, and the mean loss of the held-out rows."""

    loss: float
    settings: _Settings
    model: Discriminant


def fit_probe(z: Tensor, targets: Tensor, num_classes: int, num_inner: int) -> LinearProbe:
    """Fit a linear softmax probe.

    The first ``num_inner`` rows are fitted, and the others choose: how far the covariance is shrunk, how far
    class means are pulled together in each canonical direction, how sharp the prediction is (down to the
    marginal), and how many steps of softmax regression follow. With these choices the probe is fitted to all
    rows.

    Args:
        z: ``(N, D)`` floating-point.
        targets: ``(N,)`` int64, 0 to ``num_classes - 1``.
        num_classes: K.
        num_inner: Number of rows before the first that chooses. 0 or N leave no choice: the probe then says
            the marginal.

    Example:
        >>> import torch
        >>> z = torch.rand(200, 1, generator=torch.Generator().manual_seed(0))
        >>> probe = fit_probe(z, (z[:, 0] > 0.5).long(), 2, num_inner=150)
        >>> probe.log_prob(torch.tensor([[0.9]]), torch.tensor([1])).exp().item() > 0.95
        True
    """
    scaler = fit_scaler(z)
    x = scaler.squash(z).to(_working_dtype(z))
    inner, inner_targets = x[:num_inner], targets[:num_inner]
    judge, judge_targets = x[num_inner:], targets[num_inner:]
    inner_moments = moments(inner, inner_targets, num_classes)
    all_moments = inner_moments + moments(judge, judge_targets, num_classes)
    if not 0 < num_inner < x.shape[0]:
        log_prior = all_moments.spread().log_prior
        marginal = LinearMap(x.new_zeros(x.shape[1], num_classes), log_prior)
        return LinearProbe(marginal, x.new_full((), 0.5), log_prior, scaler, 1.0, steps=0, loss=torch.inf)

    inner_spread = inner_moments.spread()

    def attempt(shrinkage: float) -> _Attempt:
        model = discriminant(inner_spread, shrinkage)
        y = model.project(judge)
        slopes = held_out_slopes(y, judge_targets, model.means)
        scores = model.linear(slopes, y.new_ones(()))(y) - model.log_prior
        temperature = held_out_temperature(scores, model.log_prior, judge_targets)
        log_q = -model.linear(slopes, temperature).cross_entropy(y, judge_targets)
        lapse = held_out_lapse(log_q, model.log_prior[judge_targets])
        loss = -_mixed(log_q, lapse, model.log_prior[judge_targets]).mean()
        return _Attempt(float(loss), _Settings(shrinkage, slopes, temperature, lapse), model)

    chosen = _search(attempt)
    settings = chosen.settings
    steps, gain = _useful_steps(chosen, (inner, inner_targets), (judge, judge_targets))
    model = discriminant(all_moments.spread(), settings.shrinkage)
    path = _polish(model, settings, x, targets) if steps else iter([settings.start(model)])
    linear = list(islice(path, steps + 1))[-1]  # the path is shorter where it has converged
    weight = model.directions @ linear.weight
    linear = LinearMap(weight, linear.bias - model.offset @ linear.weight)
    return LinearProbe(
        linear, settings.lapse, model.log_prior, scaler, settings.shrinkage, steps, chosen.loss - gain
    )


def _working_dtype(z: Tensor) -> torch.dtype:
    """Float64 where there are few numbers: few rows leave the solution loose, and what rounding does to it would
    then be seen. Many hold it fast, and float32 takes half of the time."""
    few = z.numel() <= _FEW_NUMBERS and z.device.type != "mps"  # which has no float64
    return torch.float64 if few else torch.float32


def _mixed(log_q: Tensor, lapse: Tensor, log_marginal: Tensor) -> Tensor:
    return torch.logaddexp(log_q + torch.log1p(-lapse), log_marginal + lapse.log())


def _useful_steps(
    chosen: _Attempt, inner: tuple[Tensor, Tensor], judge: tuple[Tensor, Tensor]
) -> tuple[int, float]:
    """How many steps of the polish lower the loss of the ``judge`` rows most, and by how much; 0 where all they
    gain is within its standard error."""
    settings, model = chosen.settings, chosen.model
    y, targets = model.project(judge[0]), judge[1]
    log_marginal = model.log_prior[targets]

    def losses(linear: LinearMap) -> Tensor:
        return -_mixed(-linear.cross_entropy(y, targets), settings.lapse, log_marginal)

    first = losses(settings.start(model))
    lowest, gain, best = 0.0, first, 0
    for step, linear in enumerate(islice(_polish(model, settings, *inner), 1, _MAX_STEPS + 1), start=1):
        change = losses(linear) - first
        mean = float(change.mean())
        if mean < lowest - _LEAST_GAIN:
            lowest, gain, best = mean, change, step
        elif step - best >= (_PATIENCE if best else _HOPE):
            break
    error = float(gain.std(correction=0)) / max(1, len(targets) - 1) ** 0.5
    return (best, -lowest) if -lowest > error else (0, 0.0)


def _polish(model: Discriminant, settings: _Settings, x: Tensor, targets: Tensor) -> Iterator[LinearMap]:
    """Maps of canonical coordinates, the closed form first."""
    deviation = model.within.sqrt()
    start = settings.start(model)
    start = LinearMap(start.weight * deviation[:, None], start.bias)
    trust = torch.cat([settings.slopes.clamp(min=_LEAST_SLOPE), settings.slopes.new_ones(1)])
    scale = (trust[:, None] / model.log_prior.exp()).sqrt()
    centers = model.means * settings.slopes / deviation
    for linear in descend(model.project(x).div_(deviation), targets, start, scale, centers, _PENALTY):
        yield LinearMap(linear.weight / deviation[:, None], linear.bias)


def _search(attempt: Callable[[float], _Attempt]) -> _Attempt:
    """The best of :data:`SHRINKAGES`, found from the middle of the grid: the loss has one valley."""
    low, high = attempt(SHRINKAGES[1]), attempt(SHRINKAGES[2])
    if low.loss <= high.loss:
        return min(attempt(SHRINKAGES[0]), low, key=lambda tried: tried.loss)
    return min(attempt(SHRINKAGES[3]), high, key=lambda tried: tried.loss)
