"""How many of equal epochs read as significantly worse: beside the best epoch before, and by `gain`'s reference.

python -m lightning_mi.examples.benchmarks.plateau    # twelve runs of 50 epochs of each setting, some minutes
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from lightning_mi import MIEstimate, mi_bound
from lightning_mi.estimator.group_scores import significance_factor
from lightning_mi.reporting.run_state import RunState

EPOCHS, DIM, CLUSTERS = 50, 8, 8
SETTINGS = {  # number of pairs, noise of the embeddings from epoch to epoch, number of groups
    "512 pairs, strong jitter": (512, 0.3, None),
    "512 pairs, small jitter": (512, 0.05, None),
    "400 pairs of 20 groups": (400, 0.3, 20),
}


def epochs(number: int, jitter: float, num_groups: int | None, seed: int) -> list[MIEstimate]:
    """Estimates of a model that stays as good as it is."""
    generator = torch.Generator().manual_seed(seed)

    def normal() -> Tensor:
        return torch.randn(number, DIM, generator=generator)

    shared = normal()
    a, b = shared + 0.6 * normal(), shared + 0.6 * normal()
    groups = torch.arange(number)
    if num_groups is not None:
        groups = groups // (number // num_groups)
    return [mi_bound(a + jitter * normal(), b + jitter * normal(), CLUSTERS, groups=groups) for _ in range(EPOCHS)]


def worse_than_best(estimates: list[MIEstimate]) -> list[bool]:
    """Whether each is two standard errors below the best before."""
    best, found = estimates[0], []
    for each in estimates[1:]:
        assert each.scores is not None
        assert best.scores is not None
        gain, stderr = each.scores.gain_over(best.scores)
        found.append(gain < -2 * stderr)
        best = max(best, each, key=lambda estimate: estimate.bound)
    return found


def worse_by_gain(estimates: list[MIEstimate]) -> list[bool]:
    """Whether the logged gain of each is significantly below 0."""
    state, found = RunState(), []
    for step, each in enumerate(estimates):
        gain = state.gain_of(each)
        if gain is not None:
            assert each.scores is not None
            found.append(gain[0] < -significance_factor(len(each.scores.groups)) * gain[1])
        state.update(step, step, {("output", "near"): each})
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=12, help="of each setting (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| setting | worse than the best | worse by `gain` |")
    print("|---|---|---|")
    for name, setting in SETTINGS.items():
        runs = [epochs(*setting, seed) for seed in range(options.runs)]
        shares = []
        for judge in (worse_than_best, worse_by_gain):
            flags = [flag for run in runs for flag in judge(run)]
            shares.append(f"{100 * sum(flags) / len(flags):.1f} %")
        print(f"| {name} | {' | '.join(shares)} |", flush=True)


if __name__ == "__main__":
    main()
