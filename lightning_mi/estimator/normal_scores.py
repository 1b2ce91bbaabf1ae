"""Normal scores: a monotone map of every coordinate that makes it standard normal, whatever it was."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_mi.estimator.scaling import RobustScaler, fit_scaler

_KNOTS = 64  # quantiles between which the map is linear
_MOST_ROWS = 4096  # more would not place the quantiles better
_FARTHEST = 4.0  # standard deviations


@dataclass(frozen=True)
class NormalScores:
    """A piecewise linear, increasing map of every coordinate, fitted by :func:`fit_normal_scores`.

    Attributes:
        scaler: The scaling that is applied first.
        quantiles: ``(D, 64)`` float32, of each scaled coordinate.
        scores: ``(64,)`` float32, the same quantiles of a standard normal variable.
    """

    scaler: RobustScaler
    quantiles: Tensor
    scores: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """The scores of ``x`` ``(N, D)``: float32 within ±4."""
        columns = self.scaler.standardize(x).T.contiguous()
        above = torch.searchsorted(self.quantiles, columns).clamp_(1, _KNOTS - 1)
        low, high = self.quantiles.gather(1, above - 1), self.quantiles.gather(1, above)
        share = (columns - low).div_((high - low).clamp_(min=1e-6))
        scores = torch.lerp(self.scores[above - 1], self.scores[above], share)  # beyond the ends the line goes on
        return scores.clamp_(-_FARTHEST, _FARTHEST).T


def fit_normal_scores(x: Tensor) -> NormalScores:
    """Fit a :class:`NormalScores` to ``x`` ``(N, D)``, a floating-point tensor.

    Mutual information is the same before and after. A Gaussian model of the scores is a Gaussian copula of the
    coordinates.

    Source:
        van der Waerden, "Order tests for the two-sample problem and their power", Indagationes Mathematicae 1952;
        Ince et al., "A statistical framework for neuroimaging data analysis based on mutual information estimated
        via a Gaussian copula", Human Brain Mapping 2017.

    Example:
        >>> import torch
        >>> x = torch.randn(4000, 1, generator=torch.Generator().manual_seed(0)).exp()  # log-normal
        >>> scores = fit_normal_scores(x)(x)
        >>> abs(scores.mean().item()) < 0.05, abs((scores - x.log()).abs().mean().item()) < 0.1
        (True, True)
    """
    scaler = fit_scaler(x)
    some = scaler.standardize(x[:: -(-x.shape[0] // _MOST_ROWS)])
    places = (torch.arange(_KNOTS, dtype=torch.float64, device=x.device) + 0.5) / _KNOTS
    last = some.shape[0] - 1
    ordered = some.T.contiguous().sort(dim=1).values
    # Rows are spread evenly, half a row from both ends.
    where = (places * some.shape[0] - 0.5).clamp_(0, last)
    low = where.floor().long()
    high = (low + 1).clamp_(max=last)
    quantiles = torch.lerp(ordered[:, low], ordered[:, high], (where - low).float())
    return NormalScores(scaler, quantiles, torch.special.ndtri(places).float())
