"""The quantisers f of the bound that a user names with one word."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from lightning_mi.estimator.canonical import fit_canonical
from lightning_mi.estimator.kmeans import fit_kmeans
from lightning_mi.estimator.whitened import fit_whitened


class Quantizer(Protocol):
    """A map from embeddings to clusters."""

    def assign(self, x: Tensor, /) -> Tensor:
        """Number of the cluster of each row of ``x`` ``(N, D)``: ``(N,)`` int64."""


# Each is fitted to the pairs of one half: (z_a, z_b, num_clusters, seed) -> the quantiser and the rows' clusters.
QUANTIZERS: dict[str, Callable[[Tensor, Tensor, int, int], tuple[Quantizer, Tensor]]] = {
    "kmeans": lambda z_a, z_b, num_clusters, seed: fit_kmeans(z_b, num_clusters, seed),
    "whitened": lambda z_a, z_b, num_clusters, seed: fit_whitened(z_b, num_clusters, seed),
    "canonical": fit_canonical,
}
