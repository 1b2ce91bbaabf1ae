"""This build beside another one, in turns and on the same pairs: how tight the bounds are, and how long they take.

    git worktree add ../before cfd233d
    python -m lightning_mi.examples.benchmarks.builds ../before               # some ten minutes
    python -m lightning_mi.examples.benchmarks.builds ../before --draws 1 --rounds 1 --pairs 1024

Each build has a process of its own, which waits while the other works. First the mean bound of several draws over
the truth, with the number of clusters that the callback takes, then seconds of one bound (the median of a few, in
turns, on the processes' own number of threads) beside RankMe's singular values.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

HERE = Path(__file__).resolve()
SIZES = [(4096, 256, 64), (4096, 768, 128), (8192, 768, 128), (4096, 1280, 128), (1024, 2048, 32)]
CLUSTERS = {1024: 32, 4096: 128}
OPTIONS: dict[str, dict[str, str]] = {
    "kmeans": {"quantizer": "kmeans"},
    "canonical": {"quantizer": "canonical"},
    "contrastive": {"bound": "contrastive"},
}
TABLES = ("tightness", "times")
ONLY_NEW = ("contrastive",)


def distributions() -> ModuleType:
    """The distributions of this build, for both."""
    spec = importlib.util.spec_from_file_location("distributions", HERE.with_name("distributions.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["distributions"] = module
    spec.loader.exec_module(module)
    return module


class Build:
    """A process that estimates with the package in a folder.

    Args:
        folder: A checkout.
    """

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, str(HERE), str(folder.resolve()), "--worker"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=folder)

    def ask(self, **question: Any) -> tuple[float, float]:
        """Bound and seconds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        bound, seconds = json.loads(self._process.stdout.readline())
        return bound, seconds


def work(folder: str) -> None:
    """Answer questions on standard input."""
    sys.path.insert(0, folder)
    from lightning_mi import mi_bound

    known = distributions()
    by_name = {each.name: each for each in known.known()}
    for line in sys.stdin:
        question = json.loads(line)
        if "name" in question:
            generator = torch.Generator().manual_seed(1000 + question["seed"])
            z_a, z_b = by_name[question["name"]].draw(question["num"], generator)
        else:
            z_a, z_b, _ = known.embeddings(question["num"], question["dim"])
        start = time.perf_counter()
        bound = 0.0
        if question["options"] is None:
            torch.linalg.svdvals(z_a)
        else:
            bound = mi_bound(z_a, z_b, question["clusters"], seed=question["seed"], **question["options"]).bound
        print(json.dumps([bound, time.perf_counter() - start]), flush=True)


def print_tightness(before: Build, now: Build, draws: int, num: int) -> None:
    """Shares of the truth."""
    columns = [
        (name, build) for name in OPTIONS for build in ("before", "now") if build == "now" or name not in ONLY_NEW
    ]
    print(f"\nmean bound over {draws} draws of {num} pairs, as a share of the truth; K = {CLUSTERS[num]}")
    print(f"| {'distribution':<36} |  truth | {' | '.join(f'{name}, {build}' for name, build in columns)} |")
    print(f"|{'-' * 38}|{'-' * 8}|{'|'.join('-' * (len(name) + len(build) + 4) for name, build in columns)}|")
    shares: dict[tuple[str, str], list[float]] = {column: [] for column in columns}
    for each in distributions().known():
        if each.truth == 0:
            continue
        cells = []
        for name, build in columns:
            process = before if build == "before" else now
            asked = {"name": each.name, "num": num, "clusters": CLUSTERS[num], "options": OPTIONS[name]}
            bounds = [process.ask(**asked, seed=seed)[0] for seed in range(draws)]
            shares[name, build].append(statistics.fmean(bounds) / each.truth)
            cells.append(f"{shares[name, build][-1]:{len(name) + len(build) + 2}.2f}")
        print(f"| {each.name:<36} | {each.truth:6.3f} | {' | '.join(cells)} |", flush=True)
    means = [f"{statistics.fmean(shares[name, build]):{len(name) + len(build) + 2}.2f}" for name, build in columns]
    print(f"| {'mean':<36} |        | {' | '.join(means)} |", flush=True)


def print_times(before: Build, now: Build, rounds: int) -> None:
    """Seconds of one bound."""
    print(f"\nmedian seconds of {rounds}, in turns")
    print("|    N |    D |   K | quantizer   | before s |   bound |    now s |   bound | ratio | RankMe s |")
    print("|------|------|-----|-------------|----------|---------|----------|---------|-------|----------|")
    for num, dim, clusters in SIZES:
        for name, options in OPTIONS.items():
            asked: dict[str, Any] = {"num": num, "dim": dim, "clusters": clusters, "seed": 0}
            times: dict[str, list[float]] = {"before": [], "now": [], "RankMe": []}
            bounds = {"before": float("nan"), "now": float("nan")}
            for _ in range(rounds + 1):
                for build, process in (("before", before), ("now", now)):
                    if build == "now" or name not in ONLY_NEW:
                        bounds[build], seconds = process.ask(**asked, options=options)
                        times[build].append(seconds)
                times["RankMe"].append(now.ask(**asked, options=None)[1])
            # The first does not count.
            median = {key: statistics.median(each[1:]) if each else float("nan") for key, each in times.items()}
            cells = [f"{median[build]:8.3f} | {bounds[build]:7.3f}" for build in ("before", "now")]
            cells += [f"{median['before'] / median['now']:5.1f}", f"{median['RankMe']:8.3f}"]
            print(f"| {num:4d} | {dim:4d} | {clusters:3d} | {name:<11} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Read the arguments and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", help="a checkout of another build")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pairs", type=int, nargs="+", choices=list(CLUSTERS), default=list(CLUSTERS))
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES, help="which; both if left out")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments.before)
        return
    before, now = Build(Path(arguments.before)), Build(HERE.parent.parent.parent)
    if "tightness" in arguments.tables:
        for num in arguments.pairs:
            print_tightness(before, now, arguments.draws, num)
    if "times" in arguments.tables:
        print_times(before, now, arguments.rounds)


if __name__ == "__main__":
    main()
