"""The quantiser f of the bound: faiss k-means, on the device where the embeddings are."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_mi.estimator.scaling import RobustScaler, fit_scaler

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # SWIG's own, on import
    import faiss
    import faiss.contrib.torch_utils

_GPU_SCRATCH_BYTES = 64 << 20  # faiss would take a large share of the device by default
_SUM_CHUNK = 1 << 24  # elements of the one-hot matrix at once


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
        return _nearest(self.scaler.center_and_clip(x), self.centroids)


def fit_kmeans(x: Tensor, num_clusters: int, seed: int = 0, max_iter: int = 25) -> KMeansQuantizer:
    """Cluster the rows of ``x`` by Euclidean distance.

    Lloyd's iterations from a k-means++ start (Arthur and Vassilvitskii, SODA 2007). Host tensors go through
    ``faiss.Kmeans``. CUDA tensors stay on their GPU where faiss has GPUs: ``faiss.Kmeans`` keeps its
    points on the host, so there the same iterations run over faiss's brute-force search on the GPU.

    Args:
        x: ``(N, D)`` floating-point, finite.
        num_clusters: K, between 1 and N.
        seed: Of the k-means++ draws; no global random generator is touched.
        max_iter: The number of Lloyd's iterations (on a GPU they stop when no row changes its cluster).

    Example:
        >>> import torch
        >>> x = torch.tensor([[0.0], [0.1], [5.0], [5.1]])
        >>> a, b, c, d = fit_kmeans(x, num_clusters=2).assign(x).tolist()
        >>> a == b, c == d, a != c
        (True, True, True)
    """
    scaler = fit_scaler(x)
    points = scaler.center_and_clip(x)
    if _on_faiss_gpu(points):
        centroids = lloyd(points, kmeans_plus_plus(points, num_clusters, seed), max_iter)
    else:
        centroids = _faiss_kmeans(points, num_clusters, seed, max_iter)
    return KMeansQuantizer(centroids=centroids, scaler=scaler)


def _faiss_kmeans(points: Tensor, num_clusters: int, seed: int, max_iter: int) -> Tensor:
    kmeans = faiss.Kmeans(
        points.shape[1],
        num_clusters,
        niter=max_iter,
        seed=seed % 2**31,
        init_method=faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS,
        min_points_per_centroid=1,  # no warning: the caller has checked the number of points
        max_points_per_centroid=points.shape[0],  # no sampling down
    )
    kmeans.train(points.cpu().numpy())
    return torch.from_numpy(kmeans.centroids).to(points.device)


def lloyd(points: Tensor, centroids: Tensor, max_iter: int) -> Tensor:
    """Lloyd's iterations on ``points`` ``(N, D)`` from ``centroids`` ``(K, D)``, both float32.

    A centre that loses all of its points moves to the point that is farthest from its own centre.
    """
    previous: Tensor | None = None
    for _ in range(max_iter):
        assignment = _nearest(points, centroids)
        if previous is not None and torch.equal(assignment, previous):
            break
        sums, counts = _sums_and_counts(points, assignment, centroids.shape[0])
        empty = counts == 0
        if bool(empty.any()):
            distance = (points - centroids[assignment]).square().sum(dim=1)
            farthest = distance.topk(int(empty.sum())).indices
            sums[empty], counts[empty] = points[farthest], 1
        centroids = sums / counts[:, None]
        previous = assignment
    return centroids


def kmeans_plus_plus(points: Tensor, num_clusters: int, seed: int) -> Tensor:
    """Draw up to ``num_clusters`` rows of ``points``, each with a probability in proportion to its squared
    distance from those drawn before; fewer where there are fewer different points."""
    generator = torch.Generator(device=points.device).manual_seed(seed)
    first = torch.randint(points.shape[0], (1,), generator=generator, device=points.device)
    chosen = [points[first]]
    distance = (points - chosen[0]).square().sum(dim=1)
    for _ in range(num_clusters - 1):
        if not bool(distance.any()):
            break
        chosen.append(points[torch.multinomial(distance, 1, generator=generator)])
        distance = torch.minimum(distance, (points - chosen[-1]).square().sum(dim=1))
    return torch.cat(chosen)


def _sums_and_counts(points: Tensor, assignment: Tensor, num_clusters: int) -> tuple[Tensor, Tensor]:
    """Sum and number of the points of each cluster, by matrix products: unlike atomic additions on a
    GPU, these give the same bits every time."""
    sums = points.new_zeros(num_clusters, points.shape[1])
    counts = points.new_zeros(num_clusters)
    clusters = torch.arange(num_clusters, device=points.device)
    rows = max(1, _SUM_CHUNK // num_clusters)
    for part, member_of in zip(points.split(rows), assignment.split(rows), strict=True):
        one_hot = (member_of[:, None] == clusters).to(points.dtype)
        sums += one_hot.T @ part
        counts += one_hot.sum(dim=0)
    return sums, counts


def _nearest(points: Tensor, centroids: Tensor) -> Tensor:
    points, centroids = points.contiguous(), centroids.contiguous()
    if _on_faiss_gpu(points):
        resources = faiss.StandardGpuResources()
        resources.setTempMemory(_GPU_SCRATCH_BYTES)
        with torch.cuda.device(points.device), faiss.contrib.torch_utils.using_stream(resources):
            _, index = faiss.knn_gpu(resources, points, centroids, 1, device=points.get_device())
    else:
        _, index = faiss.knn(points.cpu(), centroids.cpu(), 1)
    nearest: Tensor = index.view(-1).to(points.device)
    return nearest


def _on_faiss_gpu(points: Tensor) -> bool:
    return points.is_cuda and faiss.get_num_gpus() > 0
