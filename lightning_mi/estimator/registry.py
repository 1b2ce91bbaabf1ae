"""Registry of quantisers f and probes q by name; a new one is a new file, a line here and a name in a Literal."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, Protocol

from torch import Tensor

from lightning_mi.estimator.cca_quantizer import fit_canonical
from lightning_mi.estimator.feature_probe import fit_feature_probe, quadratic_features, random_fourier_features
from lightning_mi.estimator.kmeans import fit_kmeans
from lightning_mi.estimator.linear_probe import fit_probe
from lightning_mi.estimator.pca_quantizer import fit_whitened

QuantizerName = Literal["kmeans", "whitened", "canonical"]
ProbeName = Literal["linear", "quadratic", "fourier"]
BoundName = Literal["clusters", "contrastive"]
BOUNDS: tuple[BoundName, ...] = ("clusters", "contrastive")


class Quantizer(Protocol):
    """A map from embeddings to clusters."""

    def assign(self, x: Tensor, /) -> Tensor:
        """Number of the cluster of each row of ``x`` ``(N, D)``: ``(N,)`` int64."""


class Probe(Protocol):
    """A conditional distribution q(c | z) of clusters given embeddings."""

    def probabilities(self, z: Tensor, /) -> Tensor:
        """q(c | z) of every cluster given ``z`` ``(N, D)``: ``(N, K)``."""


# Fitted to the pairs of one half: (z_a, z_b, num_clusters, seed) -> the quantiser and the rows' clusters.
QUANTIZERS: dict[QuantizerName, Callable[[Tensor, Tensor, int, int], tuple[Quantizer, Tensor]]] = {
    "kmeans": lambda z_a, *others: fit_kmeans(*others),
    "whitened": lambda z_a, *others: fit_whitened(*others),
    "canonical": fit_canonical,
}

# Fitted to one half: (z, targets, num_classes, num_train) -> the probe.
PROBES: dict[ProbeName, Callable[[Tensor, Tensor, int, int], Probe]] = {
    "linear": fit_probe,
    "quadratic": partial(fit_feature_probe, expand=quadratic_features),
    "fourier": partial(fit_feature_probe, expand=random_fourier_features),
}
