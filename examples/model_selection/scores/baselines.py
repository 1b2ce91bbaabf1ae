"""Baselines that need no labels either: RankMe, alpha-ReQ, LiDAR and the quality of k-means clusters.

A new baseline is one line in :func:`baseline_scores`.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable

import numpy as np
import torch
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score, silhouette_score
from torch import Tensor

from lightning_mi.examples.model_selection.scores.conditions import AGAIN, ANCHOR, INDEPENDENT, SHARED, SPEED
from lightning_mi.examples.model_selection.scores.embed import MEAN, Embedded
from lightning_mi.examples.model_selection.scores.score import Score, Wanted

_EPS = 1e-7
QUALITIES = ("silhouette", "calinski_harabasz", "davies_bouldin", "explained")
"""Measures of :func:`cluster_quality`."""

_SILHOUETTE_ROWS = 2000


def baseline_scores(embedded: Embedded, segments: object = None) -> Wanted:
    """All baselines, each of frames or of means over segments."""

    @functools.cache
    def quality(num_clusters: int) -> dict[str, float]:
        return cluster_quality(frames(), num_clusters)

    def frames() -> Tensor:
        return embedded.frames.flatten(0, 1)

    def means() -> Tensor:
        return embedded.of(SHARED, ANCHOR, MEAN)

    def augmented() -> Tensor:
        versions = ((SHARED, ANCHOR), (INDEPENDENT, ANCHOR), (SPEED, ANCHOR), (SPEED, AGAIN))
        return torch.stack([embedded.of(condition, segment, MEAN) for condition, segment in versions], dim=1)

    values: dict[str, Callable[[], float]] = {
        "RankMe(frames)": lambda: rankme(frames()),
        "RankMe(means)": lambda: rankme(means()),
        "alpha-ReQ(frames)": lambda: -abs(alpha_req(frames()) - 1),
        "alpha-ReQ(means)": lambda: -abs(alpha_req(means()) - 1),
        "LiDAR(segments of an utterance)": lambda: lidar(embedded.pooled[SHARED, MEAN]),
        "LiDAR(augmentations of a segment)": lambda: lidar(augmented()),
    }
    for num_clusters in (32, 256):
        for measure in QUALITIES:
            values[f"clusters({measure}, {num_clusters})"] = functools.partial(
                lambda measure, num_clusters: quality(num_clusters)[measure], measure, num_clusters
            )
    return {name: functools.partial(lambda value: Score(value()), value) for name, value in values.items()}


def rankme(z: Tensor) -> float:
    """RankMe: exp of the entropy of the singular values of ``z`` ``(N, D)``, from 1 to D.

    Source:
        Garrido, Balestriero, Najman, LeCun, "RankMe: assessing the downstream performance of pretrained
        self-supervised representations by their rank", ICML 2023, arXiv:2210.02885. Not centred, as there.

    Example:
        >>> round(rankme(torch.eye(4)), 3)
        4.0
    """
    values = torch.linalg.svdvals(z.double())
    shares = values / values.sum().clamp(min=1e-300) + _EPS
    return math.exp(float(-(shares * shares.log()).sum()))


def alpha_req(z: Tensor) -> float:
    """alpha-ReQ: the exponent a of the power law i^-a of the eigenvalues of the covariance of ``z`` ``(N, D)``.

    It is the slope of a least-squares line in log-log scale. According to its authors, closer to 1 is better.

    Source:
        Agrawal, Mondal, Ghosh, Richards, "alpha-ReQ: assessing representation quality in self-supervised learning
        by measuring eigenspectrum decay", NeurIPS 2022.

    Example:
        >>> scale = torch.arange(1, 9) ** -0.5  # the eigenvalues are its square
        >>> round(alpha_req(torch.cat([scale.diag(), -scale.diag()])), 3)
        1.0
    """
    z = z.double() - z.double().mean(dim=0)
    values = torch.linalg.svdvals(z).square()
    values = values[values > 1e-12 * values.max()]
    if len(values) < 2:
        return math.inf  # one direction: the steepest spectrum there is
    ranks = torch.arange(1, len(values) + 1, dtype=torch.float64).log()
    logs = values.log()
    centred = ranks - ranks.mean()
    return -float((centred * (logs - logs.mean())).sum() / centred.square().sum())


def lidar(z: Tensor, ridge: float = 1e-4) -> float:
    """LiDAR: exp of the entropy of the eigenvalues of ``W^-1/2 B W^-1/2``, from 1 to D.

    Args:
        z: ``(N, Q, D)``: Q versions of each of N inputs. B is the covariance of their means, W that within inputs.
        ridge: Added to the diagonal of W, as a share of its mean (the paper adds a constant to networks whose
            outputs have about unit scale; ours have none).

    Source:
        Thilak et al., "LiDAR: sensing linear probing performance in joint embedding SSL architectures", ICLR 2024,
        arXiv:2312.04000.

    Example:
        >>> means = torch.cat([torch.eye(3), -torch.eye(3)])[:, None]
        >>> noise = 0.1 * torch.cat([torch.eye(3), -torch.eye(3)])[None]
        >>> round(lidar(means + noise), 3)
        3.0
    """
    z = z.double()
    means = z.mean(dim=1)
    centred = means - means.mean(dim=0)
    between = centred.T @ centred / max(1, len(z) - 1)
    inside = (z - means[:, None]).flatten(0, 1)
    within = inside.T @ inside / (len(z) * max(1, z.shape[1] - 1))
    within.diagonal().add_(ridge * within.diagonal().mean() + 1e-12)
    root = torch.linalg.cholesky(within)
    half = torch.linalg.solve_triangular(root, between, upper=False)
    values = torch.linalg.eigvalsh(torch.linalg.solve_triangular(root, half.T, upper=False)).clamp(min=0)
    shares = values / values.sum().clamp(min=1e-300) + _EPS
    return math.exp(float(-(shares * shares.log()).sum()))


def cluster_quality(z: Tensor, num_clusters: int, seed: int = 0) -> dict[str, float]:
    """Quality of the mini-batch k-means clusters of ``z`` ``(N, D)``; for each measure, higher is better.

    The mean silhouette, the Calinski-Harabasz index, the Davies-Bouldin index (negated) and the share of the
    variance that lies between clusters.

    Source:
        Whetten et al., "Towards early prediction of self-supervised speech model performance", Interspeech 2025,
        arXiv:2501.05966, judge pre-training by the quality of mini-batch k-means clusters of frames and by rank.
        They take 1024 clusters of an hour of speech.
    """
    x = z.double().numpy()
    worst = dict(zip(QUALITIES, (-1.0, 0.0, -math.inf, 0.0), strict=True))
    total = float(np.square(x - x.mean(axis=0)).sum())
    if total <= 1e-12 * max(1.0, float(np.square(x).sum())):
        return worst
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer distinct rows than clusters: a collapsed model
        means = MiniBatchKMeans(num_clusters, random_state=seed, n_init=1, batch_size=1024).fit(x)
    found = len(set(means.labels_))
    if not 2 <= found < len(x):
        return worst
    return {
        "silhouette": float(
            silhouette_score(x, means.labels_, sample_size=min(len(x), _SILHOUETTE_ROWS), random_state=seed)
        ),
        "calinski_harabasz": float(calinski_harabasz_score(x, means.labels_)),
        "davies_bouldin": -float(davies_bouldin_score(x, means.labels_)),
        "explained": 1 - float(means.inertia_) / total,
    }
