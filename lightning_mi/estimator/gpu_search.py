"""The nearest centre on a GPU by faiss, which does not store the distances."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import torch
from torch import Tensor

_SCRATCH_BYTES = 64 << 20  # faiss would take a large share of the device by default


def can_search(points: Tensor) -> bool:
    """Whether ``points`` are on a GPU that faiss can use.

    Example:
        >>> import torch
        >>> can_search(torch.zeros(3, 2))
        False
    """
    return points.is_cuda and faiss_on_gpu() is not None


def search(points: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distance to the nearest centre and its number, for each point.

    Args:
        points: ``(N, D)`` float32 on a GPU.
        centroids: ``(K, D)`` float32 on the same.

    Returns:
        ``(N,)`` float32 and ``(N,)`` int64, on that GPU.

    faiss gets the addresses of the tensors. Its own support for torch, ``faiss.contrib.torch_utils``, patches
    faiss's classes for the whole process: after it a user's ``index.add`` of an ``np.memmap`` raises and
    ``index.reconstruct`` returns a tensor.
    """
    faiss = faiss_on_gpu()
    points, centroids = points.contiguous(), centroids.contiguous()
    device = points.get_device()
    distances = points.new_empty(len(points))
    indices = torch.empty(len(points), dtype=torch.int64, device=points.device)
    arguments = faiss.GpuDistanceParams()
    arguments.metric, arguments.k, arguments.dims = faiss.METRIC_L2, 1, points.shape[1]
    arguments.vectors, arguments.numVectors = _floats(centroids), len(centroids)
    arguments.queries, arguments.numQueries = _floats(points), len(points)
    arguments.outDistances = _floats(distances)
    arguments.outIndices = faiss.cast_integer_to_idx_t_ptr(indices.data_ptr())
    arguments.outIndicesType = faiss.IndicesDataType_I64
    arguments.device = device
    arguments.use_cuvs = False
    with torch.cuda.device(points.device):
        resources = _resources(device)
        stream = torch.cuda.current_stream().cuda_stream  # else it would not wait for what torch computes
        resources.setDefaultStream(device, faiss.cast_integer_to_cudastream_t(stream))
        faiss.bfKnn(resources, arguments)
    return distances, indices


def _floats(x: Tensor) -> Any:
    assert x.dtype == torch.float32
    assert x.is_contiguous()
    return faiss_on_gpu().cast_integer_to_float_ptr(x.data_ptr())


@cache
def faiss_on_gpu() -> Any:
    """faiss, or ``None`` if it is not installed or sees no GPU."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # SWIG's own, on import
        try:
            import faiss
        except ImportError:
            return None
    return faiss if faiss.get_num_gpus() > 0 else None


@cache
def _resources(device: int) -> Any:
    """Streams, handles and scratch memory of one device, made once: making them takes longer than a search."""
    resources = faiss_on_gpu().StandardGpuResources()
    resources.setTempMemory(_SCRATCH_BYTES)
    resources.setPinnedMemory(0)  # nothing comes from the host
    return resources
