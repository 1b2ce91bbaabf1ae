"""Softmax regression by L-BFGS, penalised by its distance from a given start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_mi.estimator.linear import LinearMap, row_blocks

_MEMORY = 8  # pairs of L-BFGS
_ARMIJO = 1e-4
_HALVINGS = 12


def lbfgs(
    y: Tensor, targets: Tensor, start: LinearMap, scale: Tensor, centers: Tensor, penalty: float
) -> Iterator[LinearMap]:
    """Yield ``start`` and then, one L-BFGS step at a time, maps of lower and lower

        mean cross-entropy + penalty/2 |U|^2

    with (weight, bias at the class's centre) = those of ``start`` + scale * U.

    Args:
        y: ``(N, R)`` float32.
        targets: ``(N,)`` int64 below K.
        start: The map to begin at, from which the penalty measures.
        scale: ``(R + 1, K)``, about the inverse square root of the curvature; its last row scales the bias.
        centers: ``(K, R)``, about the class means: with each class's bias taken at its centre, weights and bias
            are nearly uncorrelated and the problem is well conditioned in U.
        penalty: At least 0.

    Ends when a step no longer lowers the objective.

    Source:
        Nocedal and Wright, "Numerical optimization", 2006, algorithms 7.4 and 3.1.
    """
    problem = _Problem(y, targets, start, scale, centers.T, penalty)
    u = torch.zeros_like(scale)
    yield start
    loss, gradient = problem.objective(u)
    steps: list[tuple[Tensor, Tensor, Tensor]] = []  # (change of U, change of the gradient, their product)
    while True:
        direction = _two_loops(gradient, steps)
        slope = (direction * gradient).sum()
        length = 1.0
        for _ in range(_HALVINGS):
            new_u = u - length * direction
            new_loss, new_gradient = problem.objective(new_u)
            if bool(new_loss <= loss - _ARMIJO * length * slope):
                break
            length /= 2
        else:
            return
        change, turn = new_u - u, new_gradient - gradient
        product = (change * turn).sum()
        if bool(product > 0):
            steps = [*steps[1 - _MEMORY :], (change, turn, product)]
        u, loss, gradient = new_u, new_loss, new_gradient
        yield problem.at(u)


@dataclass(frozen=True)
class _Problem:
    y: Tensor
    targets: Tensor
    start: LinearMap
    scale: Tensor
    centers: Tensor
    penalty: float

    def at(self, u: Tensor) -> LinearMap:
        change = self.scale * u
        turned = (self.centers * change[:-1]).sum(dim=0)
        return LinearMap(self.start.weight + change[:-1], self.start.bias + change[-1] - turned)

    def objective(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """The objective (0-d float64) and its gradient by ``u``."""
        linear = self.at(u)
        gradient = torch.zeros_like(u)
        loss = torch.zeros((), dtype=torch.float64, device=u.device)
        names = torch.arange(u.shape[1], device=u.device)
        for part, hit in row_blocks(u.shape[1], self.y, self.targets):
            logits = linear(part)
            q = logits.sub_(logits.amax(dim=1, keepdim=True))
            hits = q.gather(1, hit[:, None])
            q = q.exp_()
            total = q.sum(dim=1, keepdim=True)
            loss += (total.log() - hits).sum()
            q.div_(total).sub_((hit[:, None] == names).to(q.dtype))  # no scatter, which a GPU does not repeat
            gradient[:-1] += part.T @ q
            gradient[-1] += q.sum(dim=0)
        gradient[:-1] -= self.centers * gradient[-1]
        loss = loss / self.y.shape[0] + self.penalty / 2 * u.square().sum()
        return loss, gradient.mul_(self.scale / self.y.shape[0]).add_(u, alpha=self.penalty)


def _two_loops(gradient: Tensor, steps: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    direction = gradient.clone()
    shares = []
    for change, turn, product in reversed(steps):
        share = (change * direction).sum() / product
        direction -= share * turn
        shares.append(share)
    if steps:
        _, turn, product = steps[-1]
        direction *= product / turn.square().sum()
    for (change, turn, product), share in zip(steps, reversed(shares), strict=True):
        direction += change * (share - (turn * direction).sum() / product)
    return direction
