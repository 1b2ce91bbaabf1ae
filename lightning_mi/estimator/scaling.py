"""Robust (winsorised) centring and scaling, after which float32 suffices for any embedding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_ROWS_FOR_STATISTICS = 512  # enough for a scale within a few per cent
_TAIL = 0.01  # share of rows on each side that is winsorised
_CLIP = 10.0  # scales from the centre at which a coordinate is clipped
_KNEE = 2.0  # scales from the centre beyond which `squash` flattens
_ROOM = 3.0  # scales beyond the knee that `squash` approaches
_ELEMENTS_AT_ONCE = 1 << 18  # elements in one block on the host, where they then stay in the caches


@dataclass(frozen=True)
class RobustScaler:
    """An affine map and a clip of every coordinate, fitted by :func:`fit_scaler`.

    Attributes:
        center: ``(D,)``, the winsorised mean of each coordinate.
        scale: ``(D,)``, its winsorised standard deviation; infinite if the coordinate is constant.
    """

    center: Tensor
    scale: Tensor

    def standardize(self, x: Tensor) -> Tensor:
        """Bring every coordinate of ``x`` ``(N, D)`` to unit scale, as float32 within ±10."""
        out = torch.empty(x.shape, dtype=torch.float32, device=x.device)
        for part, result in _blocks(x, out):
            result.copy_(self._standard(part).clamp_(-_CLIP, _CLIP))
        return out

    def squash(self, x: Tensor) -> Tensor:
        """:meth:`standardize`, with tails that flatten beyond two scales: float32 within ±5.

        Up to two scales from the centre the map is affine, so a linear model on these coordinates is one on the
        embedding; heavy tails do not dominate its covariance.
        """
        out = torch.empty(x.shape, dtype=torch.float32, device=x.device)
        for part, result in _blocks(x, out):
            tail = self._standard(part).clamp_(-_CLIP, _CLIP)
            body = tail.clamp(-_KNEE, _KNEE)
            tail -= body
            result.copy_(body.addcdiv_(tail, tail.abs().div_(_ROOM).add_(1)))
        return out

    def center_and_clip(self, x: Tensor) -> Tensor:
        """:meth:`standardize` with one common scale, which keeps the Euclidean geometry of ``x`` ``(N, D)``."""
        alive = torch.isfinite(self.scale)
        # Largest first, so that squares neither overflow nor vanish.
        relative = torch.where(alive, self.scale / self.scale.where(alive, 0).amax(), 0)
        common = (relative.square().sum() / alive.sum()).sqrt()
        weight = torch.where(alive, relative / common, 0).float()
        out = torch.empty(x.shape, dtype=torch.float32, device=x.device)
        for part, result in _blocks(x, out):
            torch.mul(self._standard(part).clamp_(-_CLIP, _CLIP), weight, out=result)
        return out

    def _standard(self, x: Tensor) -> Tensor:
        return (x.to(self.center.dtype) - self.center).div_(self.scale)


def fit_scaler(x: Tensor) -> RobustScaler:
    """Fit a :class:`RobustScaler` to ``x`` ``(N, D)``, a floating-point tensor.

    A coordinate whose deviation is within the rounding error of its own dtype counts as constant: the last bits of
    a collapsed model carry no information.

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0, 7.0], [2.0, 7.0], [3.0, 7.0]])
        >>> fit_scaler(x).standardize(x)[:, 1].tolist()  # a constant coordinate becomes 0
        [0.0, 0.0, 0.0]
    """
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    step = -(-x.shape[0] // _ROWS_FOR_STATISTICS)
    sample = x[::step].T.to(dtype).contiguous()
    last = sample.shape[1] - 1
    tail = round(last * _TAIL) if last >= 100 else min(1, last // 4)
    low = sample.topk(tail + 1, dim=1, largest=False).values[:, -1].double()
    high = sample.topk(tail + 1, dim=1).values[:, -1].double()
    sample = sample.double()
    inner = torch.maximum(torch.minimum(sample, high[:, None]), low[:, None])
    center = inner.mean(dim=1)
    spread = inner.sub_(center[:, None]).square().mean(dim=1).sqrt()
    # A coordinate that is constant but for rare spikes has no winsorised deviation: use all of its rows.
    spread = torch.where(spread > 0, spread, (sample - center[:, None]).square().mean(dim=1).sqrt())
    constant = spread <= 4 * torch.finfo(x.dtype).eps * torch.maximum(low.abs(), high.abs())
    scale = torch.where(constant | (spread == 0), torch.inf, spread)
    return RobustScaler(center=center.to(dtype), scale=scale.to(dtype))


def _blocks(x: Tensor, out: Tensor) -> zip[tuple[Tensor, Tensor]]:
    """Blocks of rows of both; on the host they are small, so that all passes but the first find them in cache."""
    rows = x.shape[0] if x.is_cuda else _ELEMENTS_AT_ONCE // x.shape[1]
    return zip(x.split(max(1, rows)), out.split(max(1, rows)), strict=True)
