"""Is the error bar honest when groups are few? Its ratio to the spread of draws, and how often an interval misses.

python -m lightning_mi.examples.benchmarks.error_bars             # 100 draws of each setting, some minutes
python -m lightning_mi.examples.benchmarks.error_bars --draws 20  # a look
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import torch
from torch import Tensor

from lightning_mi import MIEstimate, labeled_mi_bound, mi_bound
from lightning_mi.estimator.group_scores import significance_factor

ROWS, DIM, CLUSTERS = 400, 8, 8
GROUPS = (5, 10, 20, 50)


def independent(groups: Tensor, normal: Callable[..., Tensor]) -> MIEstimate:
    """Nothing shared."""
    return mi_bound(normal(len(groups), DIM), normal(len(groups), DIM), CLUSTERS, groups=groups)


def of_pairs(groups: Tensor, normal: Callable[..., Tensor]) -> MIEstimate:
    """Pairs share, groups do not matter."""
    z = normal(len(groups), DIM)
    return mi_bound(z, 0.8 * z + 0.6 * normal(len(groups), DIM), CLUSTERS, groups=groups)


def of_speakers(groups: Tensor, normal: Callable[..., Tensor]) -> MIEstimate:
    """Both segments hold the speaker."""
    voice = normal(int(groups.max()) + 1, DIM)[groups]
    a, b = (voice + normal(len(groups), DIM) for _ in range(2))
    return mi_bound(a, b, CLUSTERS, groups=groups)


def class_of_speakers(groups: Tensor, normal: Callable[..., Tensor]) -> MIEstimate:
    """Labels: one class a speaker, tied to z by the mean of the class and by the speaker's own."""
    classes = groups % 2
    z = normal(len(groups), DIM) + 0.7 * normal(int(groups.max()) + 1, DIM)[groups]
    z[:, 0] += 1.5 * (2 * classes - 1)
    return labeled_mi_bound(z, classes, groups=groups)


KINDS = {
    "independent": independent,
    "pairs share": of_pairs,
    "speakers share": of_speakers,
    "class = speaker": class_of_speakers,
}


def draws(kind: str, num_groups: int, number: int) -> list[MIEstimate]:
    """Estimates of independent draws."""
    estimates = []
    for seed in range(number):
        generator = torch.Generator().manual_seed(7919 * seed + num_groups)
        groups = torch.arange(num_groups).repeat_interleave(ROWS // num_groups)

        def normal(*shape: int, generator: torch.Generator = generator) -> Tensor:
            return torch.randn(*shape, generator=generator)

        estimates.append(KINDS[kind](groups, normal))
    return estimates


def row(kind: str, num_groups: int, number: int) -> str:
    """A row of the table: ratios of the error to the spread, and how often the mean is outside of the interval."""
    estimates = draws(kind, num_groups, number)
    values = torch.tensor([_not_floored(each) for each in estimates], dtype=torch.float64)
    errors = torch.tensor([each.stderr for each in estimates], dtype=torch.float64)
    spread, mean = float(values.std()), float(values.mean())
    factor = significance_factor(num_groups)
    outside = float(((values - mean).abs() > factor * errors).double().mean())
    rms = math.sqrt(float(errors.square().mean()))
    cells = kind, f"{num_groups}", f"{mean:.3f}", f"{float(errors.mean()) / spread:.2f}", f"{rms / spread:.2f}"
    return f"| {' | '.join(cells)} | {100 * outside:.0f} % |"


def _not_floored(estimate: MIEstimate) -> float:
    assert estimate.scores is not None
    return float(estimate.scores.totals.sum() / estimate.scores.counts.sum())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=100, help="of each setting (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| data | groups | mean, not floored | mean error / spread | rms error / spread | outside |")
    print("|---|---|---|---|---|---|")
    for kind in KINDS:
        for num_groups in GROUPS:
            print(row(kind, num_groups, options.draws), flush=True)


if __name__ == "__main__":
    main()
