"""Feature probe: a linear probe on quadratic or random Fourier features of the embedding's leading coordinates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_mi.estimator.lda import discriminant, moments
from lightning_mi.estimator.linalg import row_space
from lightning_mi.estimator.linear_probe import LinearProbe, fit_probe
from lightning_mi.estimator.scaling import RobustScaler

_LEADING = 16  # principal coordinates, and as many canonical ones
_SHRINKAGE = 0.4
_NUM_COSINES = 512
_WAVES = (1.0, 3.0)  # scales of the random frequencies, for one half of the features each


@dataclass(frozen=True)
class FeatureProbe:
    """A linear probe on the embedding and on functions of its leading coordinates.

    Attributes:
        linear: The probe on ``(D + F)`` features.
        directions: ``(D, R)`` float32, directions of the leading coordinates.
        offset: ``(R,)``, means of the leading coordinates.
        scaler: The scaling that is applied first.
        expand: The map from leading coordinates ``(N, R)`` to features ``(N, F)``.
    """

    linear: LinearProbe
    directions: Tensor
    offset: Tensor
    scaler: RobustScaler
    expand: Callable[[Tensor], Tensor]

    def probabilities(self, z: Tensor) -> Tensor:
        """q(c | z) of every class given ``z`` ``(N, D)``: ``(N, K)``."""
        features = _features(self.scaler.squash(z), self.directions, self.offset, self.expand)
        return self.linear.probabilities(features)


def fit_feature_probe(
    z: Tensor, targets: Tensor, num_classes: int, num_train: int, expand: Callable[[Tensor], Tensor]
) -> FeatureProbe | LinearProbe:
    """Fit a linear probe on the embedding and on ``expand`` of its leading coordinates.

    The leading coordinates are the 16 principal directions of ``z`` and the 16 directions that separate the
    classes best, both found on the training rows alone. The validation rows choose the settings of the probe, as
    in :func:`lightning_mi.estimator.linear_probe.fit_probe`, and whether the features are used at all.

    Args:
        z: ``(N, D)`` floating-point.
        targets: ``(N,)`` int64, 0 to ``num_classes - 1``.
        num_classes: K.
        num_train: Number of training rows; the rest are validation rows.
        expand: The map from leading coordinates ``(N, R)`` to features ``(N, F)``.

    Returns:
        The probe with features, or the linear probe if features do not lower the validation loss.

    Example:
        >>> import torch
        >>> from lightning_mi.estimator.contrast import contrast
        >>> z = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0))
        >>> targets = (z.norm(dim=1) > 1.18).long()  # a circle: no line separates inside from outside
        >>> straight = fit_probe(z[:1000], targets[:1000], 2, 750)
        >>> curved = fit_feature_probe(z[:1000], targets[:1000], 2, 750, quadratic_features)
        >>> contrast(straight.probabilities(z[1000:]), targets[1000:]).mean().item() < 0.01
        True
        >>> contrast(curved.probabilities(z[1000:]), targets[1000:]).mean().item() > 0.5  # of log 2 = 0.69
        True
    """
    plain = fit_probe(z, targets, num_classes, num_train)
    scaler = plain.scaler
    x = scaler.squash(z)
    basis = row_space(x[:num_train])
    train = x[:num_train] if basis is None else x[:num_train] @ basis
    known = moments(train, targets[:num_train], num_classes, x.shape[1]).statistics()
    principal = torch.linalg.eigh(known.covariance.double())[1].flip(1)[:, :_LEADING].float()
    directions = principal
    if train.shape[1] > _LEADING:
        directions = torch.cat([principal, discriminant(known, _SHRINKAGE).directions[:, :_LEADING]], dim=1)
    variance = ((known.covariance @ directions) * directions).sum(dim=0)
    directions = directions / variance.clamp(min=1e-12).sqrt()
    offset = known.mean @ directions
    if basis is not None:
        directions = basis @ directions
    features = _features(x, directions, offset, expand)
    rich = fit_probe(features, targets, num_classes, num_train)
    return FeatureProbe(rich, directions, offset, scaler, expand) if rich.loss < plain.loss else plain


def quadratic_features(u: Tensor) -> Tensor:
    """Products of any two of the coordinates ``u`` ``(N, R)``, squares included: ``(N, R (R + 1) / 2)``.

    Example:
        >>> import torch
        >>> quadratic_features(torch.tensor([[2.0, 3.0]])).tolist()
        [[4.0, 6.0, 9.0]]
    """
    first, second = torch.triu_indices(u.shape[1], u.shape[1], device=u.device)
    return u[:, first] * u[:, second]


def random_fourier_features(u: Tensor) -> Tensor:
    """Random Fourier features ``(N, 512)`` of ``u`` ``(N, R)``: cosines of random linear functions. Their
    inner products estimate 256 times the mean of two Gaussian kernels, of widths sqrt(R) and sqrt(R) / 3.

    Source:
        Rahimi and Recht, "Random features for large-scale kernel machines", NeurIPS 2007.

    Example:
        >>> import torch
        >>> random_fourier_features(torch.zeros(3, 4)).shape
        torch.Size([3, 512])
    """
    generator = torch.Generator().manual_seed(0)  # on the host: the same on every device
    width = u.shape[1]
    waves = torch.tensor(_WAVES).repeat_interleave(_NUM_COSINES // len(_WAVES)) / width**0.5
    frequencies = torch.randn(width, _NUM_COSINES, generator=generator) * waves
    phases = 2 * torch.pi * torch.rand(_NUM_COSINES, generator=generator)
    return torch.addmm(phases.to(u.device), u, frequencies.to(u.device)).cos_()


def _features(x: Tensor, directions: Tensor, offset: Tensor, expand: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.cat([x, expand(torch.addmm(-offset, x, directions))], dim=1)
