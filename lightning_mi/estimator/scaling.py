"""Robust centring and scaling: what lets k-means and a linear probe work on any embedding in float32."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_ROWS_FOR_STATISTICS = 1024  # enough for a scale within a few per cent; sorting more costs more than it tells
_TAIL = 0.005  # a scale is a standard deviation after this share on each side has been pulled in
_CLIP = 10.0  # scales from the centre at which a coordinate is cut off


@dataclass(frozen=True)
class RobustScaler:
    """An affine map and a clip of every coordinate, fitted by :func:`fit_scaler`.

    Attributes:
        center: ``(D,)``, the median of each coordinate.
        scale: ``(D,)``, its robust standard deviation; infinite where the coordinate is constant.
    """

    center: Tensor
    scale: Tensor

    def standardize(self, x: Tensor) -> Tensor:
        """Bring every coordinate of ``x`` ``(N, D)`` to unit scale, as float32 within ±10."""
        return ((x.to(self.center.dtype) - self.center) / self.scale).clamp(-_CLIP, _CLIP).float()

    def center_and_clip(self, x: Tensor) -> Tensor:
        """The same with one common scale, which keeps the Euclidean geometry of ``x`` ``(N, D)``."""
        alive = torch.isfinite(self.scale)
        if not alive.any():
            return torch.zeros(x.shape, dtype=torch.float32, device=x.device)
        largest = self.scale[alive].max()  # first, so that squares neither overflow nor vanish
        relative = torch.where(alive, self.scale / largest, 0)
        common = relative.square().mean().sqrt()
        return self.standardize(x) * (relative / common).float()


def fit_scaler(x: Tensor) -> RobustScaler:
    """Fit a :class:`RobustScaler` to ``x`` ``(N, D)``, a floating-point tensor.

    A coordinate whose spread is within the rounding error of its own dtype counts as constant: what a
    collapsed model's last bits say is not information.
    """
    eps = torch.finfo(x.dtype).eps
    step = -(-x.shape[0] // _ROWS_FOR_STATISTICS)
    ordered = x[::step].double().sort(dim=0).values
    last = ordered.shape[0] - 1
    center = ordered[last // 2]
    tail = round(last * _TAIL) if last >= 100 else min(1, last // 4)
    spread = ordered.clamp(ordered[tail], ordered[last - tail]).sub_(center).square().mean(dim=0).sqrt()
    # A coordinate that is nearly always the same (a rare spike) has no inner spread: use all of it.
    spread = torch.where(spread > 0, spread, ordered.sub(center).square().mean(dim=0).sqrt())
    constant = spread <= 4 * eps * torch.maximum(ordered[tail].abs(), ordered[last - tail].abs())
    scale = torch.where(constant | (spread == 0), torch.inf, spread)
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    return RobustScaler(center=center.to(dtype), scale=scale.to(dtype))
