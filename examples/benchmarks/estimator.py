"""Time and memory of the bound, beside what a user would write by hand and what cannot be avoided.

    python -m lightning_mi.examples.benchmarks.estimator                  # --quick: about two minutes on two cores
    python -m lightning_mi.examples.benchmarks.estimator --full           # up to a million pairs: an hour
    python -m lightning_mi.examples.benchmarks.estimator --device cuda    # and faiss against our own search
    python -m lightning_mi.examples.benchmarks.estimator --tables quantizers layers  # some of the tables
    python -m lightning_mi.examples.benchmarks.estimator --torch-mist     # and torch-mist, if it is installed
    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python -m ... --cpu-seconds   # on a shared machine

Everything is timed in turns inside one process (ours, the next one, ..., ours again), and the median is printed,
so that other load on the machine affects all of them alike. Beside the bound:

- scikit-learn: `KMeans` and `LogisticRegression`, its penalty picked from five on an inner split; fitted to one
  half and scored on the other (ours does both ways round). Timed once, and up to 8192 pairs.
- torch-mist (with `--torch-mist`): its PQ with k-means and its own defaults (an MLP of 128 units, 5000 steps);
  fitted to one half and scored on the other. Timed once, and up to 4096 pairs.
- RankMe: `torch.linalg.svdvals` of z_a (Garrido et al., ICML 2023).
- floor: the matrix products that no such method avoids: z_a^T z_a of each half, and five products of each half
  with a (D, K) matrix (one assignment to centres, their means, the assignment of the other half, the means of the
  classes, the probe's logits).
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import math
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import get_args
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from lightning_mi import mi_bound
from lightning_mi.estimator import gpu_search, kmeans
from lightning_mi.estimator.linalg import nearest
from lightning_mi.estimator.registry import QuantizerName
from lightning_mi.examples.benchmarks.distributions import embeddings
from lightning_mi.threads import SideBySide

QUICK = [(1024, 64, 16), (4096, 256, 64), (8192, 768, 128), (16_384, 256, 64), (65_536, 256, 64)]
FULL = [
    *QUICK,
    (1024, 1280, 16),
    (65_536, 768, 128),
    (8192, 1280, 512),
    (16_384, 1280, 2048),
    (65_536, 256, 2048),
    (65_536, 64, 16),
    (262_144, 256, 64),
    (1_048_576, 256, 64),
]
QUANTIZER_SIZES = [(4096, 256, 64), (4096, 768, 128), (8192, 768, 128), (4096, 1280, 128), (1024, 2048, 32)]
SEARCH_SIZES = [(4096, 768, 128), (65_536, 768, 128), (65_536, 256, 2048), (1_048_576, 64, 128)]
TABLES = ("main", "layers", "quantizers", "search")
LARGEST_FOR_SCIKIT_LEARN = 8192
LARGEST_FOR_TORCH_MIST = 4096
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
CPU_SECONDS = False  # set by --cpu-seconds
Search = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class PeakMemory:
    """The most memory that a block of code holds above what was held before it, in ``bytes``.

    Of the device on CUDA; else the resident memory (Linux), read every two milliseconds.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> PeakMemory:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
        else:
            ctypes.CDLL(None).malloc_trim(0)  # what was freed goes back to the system, to be counted again
            self._before = self._resident()
            self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated() - self._before
        else:
            self._stop.set()
            self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.002):
            self.bytes = max(self.bytes, self._resident() - self._before)

    @staticmethod
    def _resident() -> int:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * 4096


def clock() -> float:
    """Seconds on the clock that the user has chosen."""
    return time.process_time() if CPU_SECONDS else time.perf_counter()


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = clock()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def in_turns(works: Mapping[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, float]:
    """Median seconds of each of ``works``, called in turns after one call that does not count."""
    for work in works.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(seconds_of(work, device))
    return {name: statistics.median(values) for name, values in times.items()}


def floor(z_a: Tensor, num_clusters: int) -> None:
    """The matrix products that cannot be avoided."""
    half = z_a.shape[0] // 2
    wide = z_a.new_ones(z_a.shape[1], num_clusters)
    for part in (z_a[:half], z_a[half:]):
        part.T @ part
        for _ in range(5):
            part @ wide


def scikit_learn(z_a: Tensor, z_b: Tensor, num_clusters: int) -> float:
    """The held-out bound that one writes by hand."""
    from sklearn.cluster import KMeans
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    a, b = z_a.cpu().numpy(), z_b.cpu().numpy()
    order = np.random.default_rng(0).permutation(len(a))
    fit, score = order[: len(a) // 2], order[len(a) // 2 :]
    inner, judge = fit[: 3 * len(fit) // 4], fit[3 * len(fit) // 4 :]
    clusters = KMeans(num_clusters, n_init=1, random_state=0).fit(b[fit]).predict(b)
    x = StandardScaler().fit(a[fit]).transform(a)

    def cross_entropy(penalty: float, rows: np.ndarray, others: np.ndarray) -> float:
        probe = LogisticRegression(C=penalty, max_iter=200).fit(x[rows], clusters[rows])
        shares = np.full((len(others), num_clusters), 1e-9)
        shares[:, probe.classes_] = probe.predict_proba(x[others])
        return float(-np.log(shares[np.arange(len(others)), clusters[others]]).mean())

    best = min(PENALTIES, key=lambda penalty: cross_entropy(penalty, inner, judge))
    share = np.bincount(clusters[score], minlength=num_clusters) / len(score)
    entropy = float(-(share[share > 0] * np.log(share[share > 0])).sum())
    return entropy - cross_entropy(best, fit, score)


def torch_mist(z_a: Tensor, z_b: Tensor, num_clusters: int) -> float:
    """The bound of torch-mist's PQ, with all of its defaults but the number of clusters."""
    from torch_mist.estimators import pq  # type: ignore[import-not-found,unused-ignore]
    from torch_mist.utils import estimate_mi  # type: ignore[import-not-found,unused-ignore]

    half = z_a.shape[0] // 2
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]), contextlib.redirect_stdout(None):
        torch.manual_seed(0)
        a, b = z_a.clone(), z_b.clone()
        value = estimate_mi(
            data=(a[:half], b[:half]),
            estimator=pq(x_dim=a.shape[1], n_bins=num_clusters, hidden_dims=[128]),
            test_data=(a[half:], b[half:]),
            device=a.device,
            verbose=False,
            logger=False,
        )
    return float(value)


def print_torch_mist(sizes: list[tuple[int, int, int]], rounds: int, device: torch.device) -> None:
    """Ours beside torch-mist's."""
    print("|       N |    D |    K | ours s |   bound | torch-mist s | its bound |   truth | times faster |")
    print("|---------|------|------|--------|---------|--------------|-----------|---------|--------------|")
    for num, dim, num_clusters in sizes:
        if num > LARGEST_FOR_TORCH_MIST:
            continue
        z_a, z_b, truth = embeddings(num, dim)
        z_a, z_b = z_a.to(device), z_b.to(device)
        ours = partial(mi_bound, z_a, z_b, num_clusters)
        seconds = in_turns({"ours": ours}, rounds, device)["ours"]
        start = clock()
        theirs = torch_mist(z_a, z_b, num_clusters)
        took = clock() - start
        print(
            f"| {num:7d} | {dim:4d} | {num_clusters:4d} | {seconds:6.4f} | {ours().bound:7.3f} | {took:12.2f} "
            f"| {theirs:9.3f} | {truth:7.3f} | {took / seconds:12.0f} |",
            flush=True,
        )


def call_all(works: Iterable[Callable[[], object]], device: torch.device) -> None:
    """As the callback does: on the host side by side."""
    with SideBySide[int, object](torch.get_num_threads() if device.type == "cpu" else 1) as running:
        for number, work in enumerate(works):
            running.start(number, work)
        running.results()


def print_layers(rounds: int, device: torch.device) -> None:
    """Twelve layers at once beside one."""
    num, dim, num_clusters = (4096, 768, 128) if device.type == "cuda" else (4096, 256, 64)
    z_a, z_b, _ = embeddings(num, dim)
    layers = [(z_a.to(device).roll(layer, 1), z_b.to(device).roll(layer, 1)) for layer in range(12)]
    names: tuple[QuantizerName, ...] = ("kmeans", "canonical")
    for quantizer in names:
        bounds = [partial(mi_bound, a, b, num_clusters, quantizer=quantizer) for a, b in layers]
        works: dict[str, Callable[[], object]] = {
            "one": bounds[0],
            "twelve": partial(call_all, bounds, device),
        }
        medians = in_turns(works, rounds, device)
        print(
            f"N={num}, D={dim}, K={num_clusters}, {quantizer}: one layer {medians['one']:.4f} s, "
            f"12 layers {medians['twelve']:.4f} s, ratio {medians['twelve'] / medians['one']:.1f}",
            flush=True,
        )


def print_quantizers(rounds: int, device: torch.device) -> None:
    """What each quantiser costs, beside RankMe's singular values, and its bound."""
    names = get_args(QuantizerName)
    print(f"|    N |    D |    K | {' | '.join(f'{name:>9} s |   bound' for name in names)} | RankMe s |")
    print(f"|------|------|------|{'-------------|---------|' * len(names)}----------|")
    for num, dim, num_clusters in QUANTIZER_SIZES:
        z_a, z_b, _ = embeddings(num, dim)
        z_a, z_b = z_a.to(device), z_b.to(device)
        bounds = {name: partial(mi_bound, z_a, z_b, num_clusters, quantizer=name) for name in names}
        medians = in_turns({**bounds, "RankMe": partial(torch.linalg.svdvals, z_a)}, rounds, device)
        cells = " | ".join(f"{medians[name]:11.4f} | {bounds[name]().bound:7.3f}" for name in names)
        print(f"| {num:4d} | {dim:4d} | {num_clusters:4d} | {cells} | {medians['RankMe']:8.4f} |", flush=True)


def table_row(num: int, dim: int, num_clusters: int, rounds: int, device: torch.device) -> tuple[str, float]:
    """One line of the main table, and the seconds of the bound."""
    z_a, z_b, truth = embeddings(num, dim)
    z_a, z_b = z_a.to(device), z_b.to(device)
    ours = partial(mi_bound, z_a, z_b, num_clusters)
    works = {
        "ours": ours,
        "RankMe": partial(torch.linalg.svdvals, z_a),
        "floor": partial(floor, z_a, num_clusters),
    }
    medians = in_turns(works, rounds, device)
    with PeakMemory(device) as peak:
        estimate = ours()
    memory = peak.bytes / (z_a.nbytes + z_b.nbytes)
    beside = "              - |         - |            - |"
    if num <= LARGEST_FOR_SCIKIT_LEARN and num_clusters <= 128:
        start = clock()
        theirs = scikit_learn(z_a, z_b, num_clusters)
        took = clock() - start
        beside = f"{took:14.2f} | {theirs:9.3f} | {took / medians['ours']:12.0f} |"
    line = (
        f"| {num:7d} | {dim:4d} | {num_clusters:4d} | {medians['ours']:8.4f} | {estimate.bound:7.3f} "
        f"| {estimate.stderr:6.3f} | {truth:7.3f} | {memory:11.2f} | {medians['RankMe']:8.4f} "
        f"| {medians['ours'] / medians['RankMe']:11.2f} | {medians['floor']:8.4f} "
        f"| {medians['ours'] / medians['floor']:10.2f} | {beside}"
    )
    return line, medians["ours"]


def print_table(sizes: list[tuple[int, int, int]], rounds: int, device: torch.device) -> None:
    """The main table, and how the seconds grow with N."""
    print(
        "|       N |    D |    K |  seconds |   bound | stderr |   truth | memory/emb. | RankMe s | ours/RankMe "
        "|  floor s | ours/floor | scikit-learn s | its bound | times faster |"
    )
    print("|" + "|".join("-" * width for width in (9, 6, 6, 10, 9, 8, 9, 13, 10, 13, 10, 12, 16, 11, 14)) + "|")
    growth = []
    for num, dim, num_clusters in sizes:
        line, seconds = table_row(num, dim, num_clusters, rounds if num < 100_000 else 1, device)
        print(line, flush=True)
        if (dim, num_clusters) == (256, 64) and num >= 16_384:
            growth.append((math.log(num), math.log(seconds)))
    if len(growth) > 1:
        exponent = statistics.linear_regression(*zip(*growth, strict=True)).slope
        print(f"seconds grow with N (D=256, K=64, from N=16,384) by the exponent {exponent:.2f}")


def k_means_by(search: Search, points: Tensor, num_clusters: int) -> None:
    """A whole k-means with another search for the nearest centre."""
    with patch.object(kmeans, "search", search):
        kmeans.cluster(points, num_clusters)


def print_search(rounds: int, device: torch.device) -> None:
    """On CUDA: the search for the nearest centre and a whole k-means by our own lines and, where they are
    installed, by faiss and by flash-kmeans."""
    faiss = gpu_search.faiss_on_gpu()
    flash: Callable[..., object] | None = None
    with contextlib.suppress(ImportError):
        flash = import_module("flash_kmeans").batch_kmeans_Euclid
    absent = [name for name, found in (("faiss", faiss), ("flash-kmeans", flash)) if not found]
    print(f"not installed: {', '.join(absent) or 'nothing'}")
    for num, dim, num_clusters in SEARCH_SIZES:
        points = torch.randn(num, dim, device=device)
        centroids = points[:num_clusters].clone()
        works: dict[str, Callable[[], object]] = {
            "our search": partial(nearest, points, centroids),
            "our k-means": partial(k_means_by, nearest, points, num_clusters),
        }
        if faiss:
            works["faiss's search"] = partial(kmeans.search, points, centroids)
            works["k-means by faiss's search"] = partial(k_means_by, kmeans.search, points, num_clusters)
        if flash is not None:
            works["flash-kmeans"] = partial(flash, points[None], n_clusters=num_clusters, tol=1e-4, verbose=False)
        medians = in_turns(works, rounds, device)
        times = ", ".join(f"{name} {seconds:.5f} s" for name, seconds in medians.items())
        print(f"N={num}, D={dim}, K={num_clusters}: {times}", flush=True)


def main() -> None:
    """Read the arguments and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="the small grid (the default)")
    size.add_argument("--full", action="store_true", help="the whole grid")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES, help="which; all if left out")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...; the search's table needs cuda")
    parser.add_argument("--rounds", type=int, default=5, help="calls of which the median is printed")
    parser.add_argument("--torch-mist", action="store_true", help="beside torch-mist's PQ, up to 4096 pairs")
    parser.add_argument("--cpu-seconds", action="store_true", help="of the process, for a shared machine")
    arguments = parser.parse_args()
    global CPU_SECONDS
    CPU_SECONDS = arguments.cpu_seconds
    device = torch.device(arguments.device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    unit = "CPU seconds" if CPU_SECONDS else "wall-clock seconds"
    print(f"torch {torch.__version__}, {device} ({name}), {unit}, median of {arguments.rounds}; nats")
    with torch.inference_mode():
        if "main" in arguments.tables:
            print_table(FULL if arguments.full else QUICK, arguments.rounds, device)
        if "layers" in arguments.tables:
            print_layers(arguments.rounds, device)
        if "quantizers" in arguments.tables:
            print_quantizers(arguments.rounds, device)
        if arguments.torch_mist:
            print_torch_mist(QUICK, arguments.rounds, device)
        if "search" in arguments.tables and device.type == "cuda":
            print_search(arguments.rounds, device)


if __name__ == "__main__":
    main()
