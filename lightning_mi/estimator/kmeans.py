"""The paper's quantiser: k-means (Lloyd's iterations from a k-means++ start), on the device of the points."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_mi.estimator.products import nearest, sums_by_class
from lightning_mi.estimator.scaling import RobustScaler, fit_scaler

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # SWIG's own, on import
    import faiss
    import faiss.contrib.torch_utils

_GPU_SCRATCH_BYTES = 64 << 20  # faiss would take a large share of the device by default
_SKETCH_DIM = 32  # principal components in which most iterations are done
_SEEDING_ROWS_PER_CENTER = 16  # among which k-means++ draws,
_SEEDING_ROWS = 1024  # but never fewer than these
_LADDER_TOP = 2.0**30  # the largest weight of a draw, as a whole number
_TOLERANCE = 1e-3  # of the sum of squared distances, by which an iteration must lower it


@dataclass(frozen=True)
class KMeansQuantizer:
    """Cluster centres in scaled coordinates, fitted by :func:`fit_kmeans`.

    Attributes:
        centroids: ``(K', D)`` float32, K' at most the K that was asked for.
        scaler: The scaling that stands before the search.
    """

    centroids: Tensor
    scaler: RobustScaler

    def assign(self, x: Tensor) -> Tensor:
        """Number of the nearest centre of each row of ``x`` ``(N, D)``: ``(N,)`` int64."""
        return search(self.scaler.center_and_clip(x), self.centroids)[1]


def fit_kmeans(x: Tensor, num_clusters: int, seed: int = 0, max_iter: int = 25) -> tuple[KMeansQuantizer, Tensor]:
    """Cluster the rows of ``x`` by Euclidean distance.

    Args:
        x: ``(N, D)`` floating-point, finite.
        num_clusters: K, between 1 and N.
        seed: Of the k-means++ draws; no global random generator is touched.
        max_iter: The most iterations of :func:`lloyd`.

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
    centroids, member_of = cluster(scaler.center_and_clip(x), num_clusters, seed, max_iter)
    return KMeansQuantizer(centroids, scaler), member_of


def cluster(points: Tensor, num_clusters: int, seed: int = 0, max_iter: int = 25) -> tuple[Tensor, Tensor]:
    """Centres ``(K', D)`` of ``points`` ``(N, D)`` float32, K' at most ``num_clusters``, and the centre of each.

    Where D is large, k-means++ and the first iterations of :func:`lloyd` see the leading principal components
    alone, in which k-means finds most of what it finds, and the last ones the points themselves.

    Source:
        Ding and He, "K-means clustering via principal component analysis", ICML 2004; Halko, Martinsson, Tropp,
        "Finding structure with randomness", SIAM Review 2011, for the components.
    """
    dim = points.shape[1]
    if dim <= 2 * _SKETCH_DIM:
        return lloyd(points, kmeans_plus_plus(points, num_clusters, seed), max_iter)
    # Drawn on the host: the same on every device.
    noise = torch.randn(dim, _SKETCH_DIM, generator=torch.Generator().manual_seed(seed)).to(points.device)
    sketch = points @ torch.linalg.qr(points.T @ (points @ noise)).Q
    centroids, member_of = lloyd(sketch, kmeans_plus_plus(sketch, num_clusters, seed), max_iter)
    counts = torch.bincount(member_of, minlength=centroids.shape[0])
    alive = counts > 0
    means = sums_by_class(points, member_of, centroids.shape[0])[alive] / counts[alive, None]
    return lloyd(points, means, max_iter)


def lloyd(points: Tensor, centroids: Tensor, max_iter: int) -> tuple[Tensor, Tensor]:
    """Lloyd's iterations on ``points`` ``(N, D)`` from ``centroids`` ``(K, D)``, both float32.

    They end after ``max_iter``, or when the sum of squared distances falls by less than a thousandth. A centre
    that loses all of its points moves to the point that is farthest from its own centre.

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


def kmeans_plus_plus(points: Tensor, num_clusters: int, seed: int) -> Tensor:
    """Draw up to ``num_clusters`` rows of ``points``, each with a probability in proportion to its squared
    distance from those drawn before; fewer where there are fewer different points.

    Of several rows drawn each time the one is kept that leaves the smallest sum of squared distances. Of many
    points an even sample is drawn from.

    Source:
        Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007, the several rows in
        their conclusion.
    """
    points = points[:: max(1, points.shape[0] // max(_SEEDING_ROWS, _SEEDING_ROWS_PER_CENTER * num_clusters))]
    last, trials = points.shape[0] - 1, 2 + int(math.log(num_clusters))
    # Drawn on the host: the same on every device.
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand(num_clusters, trials, dtype=torch.float64, generator=generator).to(points.device)
    # What rounding leaves between equal points is no distance.
    squares = points.square().sum(dim=1) * (1 - 1e-6)
    distance = torch.full_like(squares, torch.inf)
    weights = torch.ones_like(squares)
    chosen, totals = [], []
    for draw in draws:
        # Whole numbers, because their sums are the same in whatever order a GPU adds them.
        ladder = (weights * (_LADDER_TOP / weights.amax().clamp(min=1e-30))).to(torch.int64).cumsum(dim=0)
        rows = torch.searchsorted(ladder, (draw * ladder[-1]).to(torch.int64), right=True).clamp_(max=last)
        apart = torch.addmm(squares, points[rows], points.T, alpha=-2).add_(squares[rows, None]).clamp_(min=0)
        apart = torch.minimum(apart, distance)
        best = apart.sum(dim=1).argmin(dim=0, keepdim=True)
        weights = distance = apart[best][0]
        chosen.append(rows[best])
        totals.append(ladder[-1:])
    return points[torch.cat(chosen)[torch.cat(totals) > 0].unique()]


def search(points: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """:func:`lightning_mi.estimator.products.nearest`; on a GPU by faiss, which never writes the distances."""
    if not (points.is_cuda and faiss.get_num_gpus() > 0):
        return nearest(points, centroids)
    points, centroids = points.contiguous(), centroids.contiguous()
    resources = faiss.StandardGpuResources()
    resources.setTempMemory(_GPU_SCRATCH_BYTES)
    with torch.cuda.device(points.device), faiss.contrib.torch_utils.using_stream(resources):
        distance, index = faiss.knn_gpu(resources, points, centroids, 1, device=points.get_device())
    return (distance.view(-1) - points.square().sum(dim=1)) / 2, index.view(-1)
