"""The linear probe q(c | z): a softmax regression, its penalty chosen on groups that it was not fitted on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_mi.estimator.scaling import RobustScaler, fit_scaler

# Strong to weak, on the mean cross-entropy of standardised features. The search walks down this path, each
# solution the start of the next, and ends when the held-out likelihood has fallen twice.
PENALTIES = tuple(10.0 ** (-exponent / 2) for exponent in range(0, 11))
_PATIENCE = 2
_PSEUDO_ROWS = 0.5  # of each class, at the centre (Krichevsky and Trofimov): no class is ever impossible
_SEARCH_TOLERANCE = 1e-4  # on the gradient, while penalties are compared
# For the probe that is used: in float64, so that what rounding does to the embeddings (another batch size, another
# number of processes) does not grow into another end point of the solver.
_FINAL_TOLERANCE = 1e-10
_MAX_ITER = 500


@dataclass(frozen=True)
class LinearProbe:
    """A fitted probe.

    Attributes:
        weight: ``(D, K)`` float64, all zeros where the probe knows nothing and says the marginal.
        bias: ``(K,)``.
        scaler: The scaling that stands before it.
        penalty: The chosen L2 penalty, infinite for the marginal.
    """

    weight: Tensor
    bias: Tensor
    scaler: RobustScaler
    penalty: float

    def log_prob(self, z: Tensor, targets: Tensor) -> Tensor:
        """log q(c | z) in nats, ``(N,)``, of ``targets`` ``(N,)`` given ``z`` ``(N, D)``."""
        logits = torch.addmm(self.bias, self.scaler.standardize(z).to(self.weight.dtype), self.weight)
        return -F.cross_entropy(logits, targets, reduction="none")


def fit_probe(z: Tensor, targets: Tensor, num_classes: int, held_out: Tensor) -> LinearProbe:
    """Fit a softmax regression with an L2 penalty to convergence.

    The penalty is the one of :data:`PENALTIES` (or none of them: the marginal) whose fit to the other rows
    predicts the ``held_out`` rows best; the probe is then fitted again to all rows.

    Args:
        z: ``(N, D)`` floating-point.
        targets: ``(N,)`` int64, 0 to ``num_classes - 1``.
        num_classes: K.
        held_out: ``(N,)`` bool, the rows that choose the penalty. All or none of them leave no choice: the
            probe then says the marginal.

    Example:
        >>> import torch
        >>> z = torch.linspace(-1, 1, 200)[:, None]
        >>> probe = fit_probe(z, (z[:, 0] > 0).long(), 2, held_out=torch.arange(200) % 4 == 0)
        >>> probe.log_prob(torch.tensor([[0.9]]), torch.tensor([1])).exp().item() > 0.95
        True
    """
    outer = _Problem(z, targets, num_classes)
    if bool(held_out.all()) or not bool(held_out.any()):
        return outer.probe(outer.zero_weight(), outer.marginal, torch.inf)
    inner = _Problem(z[~held_out], targets[~held_out], num_classes)
    weight = best_weight = inner.zero_weight()
    best_penalty = torch.inf
    lowest = -inner.probe(weight, inner.marginal, torch.inf).log_prob(z[held_out], targets[held_out]).mean()
    bias, worse = inner.marginal, 0
    for penalty in PENALTIES:
        weight, bias = inner.solve(penalty, weight, bias, _SEARCH_TOLERANCE)
        probe = inner.probe(weight, bias, penalty)
        cross_entropy = -probe.log_prob(z[held_out], targets[held_out]).mean()
        if cross_entropy < lowest:
            lowest, best_penalty, best_weight, worse = cross_entropy, penalty, weight, 0
        else:
            worse += 1
            if worse == _PATIENCE:
                break
    if best_penalty == torch.inf:
        return outer.probe(outer.zero_weight(), outer.marginal, torch.inf)
    weight, bias = outer.solve(best_penalty, best_weight, outer.marginal, _SEARCH_TOLERANCE)
    if z.device.type != "mps":  # which has no float64
        weight, bias = outer.solve(best_penalty, weight.double(), bias.double(), _FINAL_TOLERANCE)
    return outer.probe(weight, bias, best_penalty)


class _Problem:
    """Minimise  mean CE(softmax(x W + b), c) + penalty/2 |W|^2  over W and b, for one set of rows.

    L-BFGS works on U, where W = V (S/K + penalty)^(-1/2) U and V, S are the eigenvectors and eigenvalues of
    the features' covariance: S/K is the size of the softmax's curvature, so the problem is close to round
    in U whatever the embedding, and a few dozen iterations converge.
    """

    def __init__(self, z: Tensor, targets: Tensor, num_classes: int) -> None:
        self.scaler = fit_scaler(z)
        x = self.scaler.standardize(z)
        counts = torch.bincount(targets, minlength=num_classes).float() + _PSEUDO_ROWS
        self.marginal = (counts / counts.sum()).log()
        self._one_hot = F.one_hot(targets, num_classes).float()
        self._total = counts.sum()
        covariance = (x.T @ x) / x.shape[0]
        eigenvalues, self._basis = torch.linalg.eigh(covariance)
        self._curvature = eigenvalues.clamp(min=0) / num_classes
        self._x = x @ self._basis

    def zero_weight(self) -> Tensor:
        return self._x.new_zeros(self._x.shape[1], self.marginal.shape[0])

    def probe(self, weight: Tensor, bias: Tensor, penalty: float) -> LinearProbe:
        return LinearProbe(weight=weight, bias=bias, scaler=self.scaler, penalty=penalty)

    def solve(self, penalty: float, weight: Tensor, bias: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
        """The minimiser ``(weight, bias)`` for one ``penalty``, starting from the given ones, in their dtype."""
        basis, one_hot = self._basis.to(weight.dtype), self._one_hot.to(weight.dtype)
        scale = (self._curvature + penalty).rsqrt()[:, None].to(weight.dtype)
        x = self._x.to(weight.dtype) * scale.T
        # One leaf that holds U and, as its last row, b.
        start = torch.cat([(basis.T @ weight) / scale, bias[None]])
        # Leaf and gradient are made outside of inference mode; the gradient is written by hand, so no
        # autograd graph is ever built.
        with torch.inference_mode(False):
            leaf = torch.empty_like(start).copy_(start)
            leaf.grad = torch.zeros_like(leaf)
        optimizer = torch.optim.LBFGS(
            [leaf],
            max_iter=_MAX_ITER,
            history_size=10,
            tolerance_grad=tolerance,
            tolerance_change=tolerance / 100,
            line_search_fn="strong_wolfe",
        )

        @torch.no_grad()
        def closure() -> Tensor:
            assert leaf.grad is not None
            u, b = leaf[:-1], leaf[-1]
            log_q = torch.addmm(b, x, u).log_softmax(dim=1)
            log_q_center = b.log_softmax(dim=0)
            ridge = penalty * scale.square() * u
            log_likelihood = (log_q * one_hot).sum() + _PSEUDO_ROWS * log_q_center.sum()
            loss = (ridge * u).sum() / 2 - log_likelihood / self._total
            error = log_q.exp().sub_(one_hot)
            center_error = _PSEUDO_ROWS * (log_q_center.exp() * b.shape[0] - 1)
            leaf.grad[:-1] = x.T @ error / self._total + ridge
            leaf.grad[-1] = (error.sum(dim=0) + center_error) / self._total
            return loss

        optimizer.step(closure)
        solution = leaf.detach()
        return basis @ (solution[:-1] * scale), solution[-1]
