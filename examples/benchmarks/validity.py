"""Validity of the bound and of its standard error, and the effect of each option, on known distributions.

    python -m lightning_mi.examples.benchmarks.validity                 # 200 draws of 1000 pairs, a few minutes
    python -m lightning_mi.examples.benchmarks.validity --draws 20      # a look
    python -m lightning_mi.examples.benchmarks.validity --bound contrastive
    python -m lightning_mi.examples.benchmarks.validity --options       # every quantiser with every probe

Columns of the first table: the mean bound, the truth, in how many draws the bound is above the truth, in how many
the lower end of the one-sided 95% interval (bound - 1.645 stderr) is at or below it, the mean standard error over
the spread of the bounds (before they are floored at 0), and both of those.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any, get_args

import torch

from lightning_mi import mi_bound
from lightning_mi.estimator.registry import BOUNDS, PROBES, QUANTIZERS, ProbeName, QuantizerName
from lightning_mi.examples.benchmarks.distributions import Distribution, known


def validity_row(distribution: Distribution, draws: int, num: int, **options: Any) -> str:
    """One line of the table, of the bound with ``options``."""
    bounds, scores, errors = [], [], []
    for seed in range(draws):
        a, b = distribution.draw(num, torch.Generator().manual_seed(1000 + seed))
        estimate = mi_bound(a, b, distribution.num_clusters, seed=seed, **options)
        bounds.append(estimate.bound)
        errors.append(estimate.stderr)
        assert estimate.scores is not None
        scores.append(float(estimate.scores.totals.sum() / estimate.scores.counts.sum()))
    truth = distribution.truth
    above = sum(bound > truth for bound in bounds) / draws
    covered = sum(bound - 1.645 * error <= truth for bound, error in zip(bounds, errors, strict=True)) / draws
    spread, error = statistics.stdev(scores), statistics.fmean(errors)
    return (
        f"| {distribution.name:<36} | {statistics.fmean(bounds):7.3f} | {truth:7.3f} | {above:6.1%} "
        f"| {covered:6.1%} | {error / spread:6.2f} | {error:6.4f} | {spread:6.4f} |"
    )


def print_validity(draws: int, num: int, **options: Any) -> None:
    """The first table."""
    print(
        f"{draws} draws of {num} pairs, {', '.join(f'{name}={value!r}' for name, value in options.items())}; nats"
    )
    print(f"| {'distribution':<36} |   bound |   truth |  above | covers | ratio  | stderr | spread |")
    print(f"|{'-' * 38}|{'-' * 9}|{'-' * 9}|{'-' * 8}|{'-' * 8}|{'-' * 8}|{'-' * 8}|{'-' * 8}|")
    for distribution in known():
        print(validity_row(distribution, draws, num, **options), flush=True)


def print_options(draws: int, num: int) -> None:
    """The mean bound of every quantiser with every probe."""
    columns = [(quantizer, probe) for quantizer in get_args(QuantizerName) for probe in get_args(ProbeName)]
    print(f"mean bound over {draws} draws of {num} pairs; nats")
    print(f"| {'distribution':<36} |   truth | {' | '.join(f'{q[:8]:>8} {p[:9]:>9}' for q, p in columns)} |")
    print(f"|{'-' * 38}|{'-' * 9}|{('-' * 20 + '|') * len(columns)}")
    for distribution in known():
        means = []
        for quantizer, probe in columns:
            bounds = []
            for seed in range(draws):
                a, b = distribution.draw(num, torch.Generator().manual_seed(1000 + seed))
                clusters = distribution.num_clusters
                bounds.append(mi_bound(a, b, clusters, seed=seed, quantizer=quantizer, probe=probe).bound)
            means.append(statistics.fmean(bounds))
        cells = " | ".join(f"{mean:18.3f}" for mean in means)
        print(f"| {distribution.name:<36} | {distribution.truth:7.3f} | {cells} |", flush=True)


def main() -> None:
    """Read the arguments and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--quantizer", choices=QUANTIZERS, default="kmeans")
    parser.add_argument("--probe", choices=PROBES, default="linear")
    parser.add_argument("--bound", choices=BOUNDS, default="clusters")
    parser.add_argument("--options", action="store_true", help="the table of all options instead")
    arguments = parser.parse_args()
    if arguments.options:
        print_options(arguments.draws, arguments.pairs)
    else:
        options = {name: getattr(arguments, name) for name in ("quantizer", "probe", "bound")}
        print_validity(arguments.draws, arguments.pairs, **options)


if __name__ == "__main__":
    main()
