"""k-means quantiser: Lloyd's iterations from a k-means|| start, on the device of the points."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_mi.estimator import gpu_search
from lightning_mi.estimator.kmeans_init import seed_centers
from lightning_mi.estimator.linalg import nearest, sums_by_class
from lightning_mi.estimator.scaling import RobustScaler, fit_scaler

_PCA_DIM = 32  # principal components that the first iterations use
_ROWS_PER_CENTER = 256  # at least, when the iterations use an even sample
_MOST_ITERATIONS = 25
_TOLERANCE = 1e-3  # relative fall of the sum of squared distances, below which the iterations end


@dataclass(frozen=True)
class KMeansQuantizer:
    """Cluster centres in scaled coordinates, fitted by :func:`fit_kmeans`.

    Attributes:
        centroids: ``(K', D)`` float32, K' at most the K that was asked for.
        scaler: The scaling that is applied first.
    """

    centroids: Tensor
    scaler: RobustScaler

    def assign(self, x: Tensor) -> Tensor:
        """Number of the nearest centre of each row of ``x`` ``(N, D)``: ``(N,)`` int64."""
        return search(self.scaler.center_and_clip(x), self.centroids)[1]


def fit_kmeans(x: Tensor, num_clusters: int, seed: int = 0) -> tuple[KMeansQuantizer, Tensor]:
    """Cluster the rows of ``x`` by Euclidean distance.

    Args:
        x: ``(N, D)`` floating-point, finite.
        num_clusters: K, between 1 and N.
        seed: Seed of the initialisation; no global random generator is touched.

    Returns:
        The quantiser, and the cluster of each row of ``x``, ``(N,)`` int64.

    Example:
        >>> import torch
        >>> x = torch.tensor([[0.0], [0.1], [5.0], [5.1]])
        >>> quantizer, (a, b, c, d) = fit_kmeans(x, num_clusters=2)
        >>> bool(a == b), bool(c == d), bool(a != c)
        (True, True, True)
        >>> bool(quantizer.assign(torch.tensor([[5.2]])) == d)
        True
    """
    scaler = fit_scaler(x)
    centroids, member_of = cluster(scaler.center_and_clip(x), num_clusters, seed)
    return KMeansQuantizer(centroids, scaler), member_of


def cluster(points: Tensor, num_clusters: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Centres ``(K', D)`` of ``points`` ``(N, D)`` float32, K' at most ``num_clusters``, and the number of the
    nearest of them for each point, ``(N,)`` int64.

    If D is above 64, the initialisation and the first iterations use 32 leading principal components, which hold
    most of the cluster structure, and the last iterations use the points themselves. With 512 points or more for
    each centre, the iterations use an even sample of at least 256 for each.

    Source:
        Ding and He, "K-means clustering via principal component analysis", ICML 2004; Halko, Martinsson, Tropp,
        "Finding structure with randomness", SIAM Review 2011, for the components.
    """
    step = max(1, points.shape[0] // (_ROWS_PER_CENTER * num_clusters))
    some = points[::step].contiguous()
    centroids, member_of = lloyd(some, _seeded(some, num_clusters, seed), _MOST_ITERATIONS)
    return centroids, member_of if step == 1 else search(points, centroids)[1]


def _seeded(points: Tensor, num_clusters: int, seed: int) -> Tensor:
    dim = points.shape[1]
    if dim <= 2 * _PCA_DIM:
        return seed_centers(points, num_clusters, seed)
    # Drawn on the host: the same on every device.
    noise = torch.randn(dim, _PCA_DIM, generator=torch.Generator().manual_seed(seed)).to(points.device)
    leading = points @ torch.linalg.qr(points.T @ (points @ noise)).Q
    _, member_of = lloyd(leading, seed_centers(leading, num_clusters, seed), _MOST_ITERATIONS)
    return _means(points, member_of, num_clusters)


def _means(points: Tensor, member_of: Tensor, num_clusters: int) -> Tensor:
    """Means of the clusters that have members."""
    counts = torch.bincount(member_of, minlength=num_clusters)
    alive = counts > 0
    return sums_by_class(points, member_of, num_clusters)[alive] / counts[alive, None]


def lloyd(points: Tensor, centroids: Tensor, max_iter: int) -> tuple[Tensor, Tensor]:
    """Lloyd's iterations on ``points`` ``(N, D)`` from ``centroids`` ``(K, D)``, both float32.

    They end after ``max_iter``, or when the sum of squared distances falls by less than a thousandth. A centre
    without points moves to the point that is farthest from its own centre.

    Returns:
        The centres ``(K, D)`` and the nearest of them for each point ``(N,)``.

    Source:
        Lloyd, "Least squares quantization in PCM", IEEE Transactions on Information Theory 1982.
    """
    squares = points.square().sum(dim=1)
    cost, member_of = search(points, centroids)
    previous = torch.inf
    for _ in range(max_iter):
        counts = torch.bincount(member_of, minlength=centroids.shape[0])
        error, emptiest = torch.stack([squares.sum() + 2 * cost.sum(), counts.min().to(cost.dtype)]).tolist()
        if emptiest > 0 and previous - error <= _TOLERANCE * error:
            break
        sums = sums_by_class(points, member_of, centroids.shape[0])
        if emptiest == 0:
            empty = counts == 0
            farthest = (squares + 2 * cost).topk(int(empty.sum())).indices
            sums[empty], counts[empty] = points[farthest], 1
        centroids, previous = sums / counts[:, None], error
        cost, member_of = search(points, centroids)
    return centroids, member_of


def search(points: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """:func:`lightning_mi.estimator.linalg.nearest`; on a GPU by faiss, if it sees it, which does not store the
    distances."""
    if not gpu_search.can_search(points):
        return nearest(points, centroids)
    distance, index = gpu_search.search(points, centroids)
    return (distance - points.square().sum(dim=1)) / 2, index
