"""The smallest true gain between two models that is seen, and the jitter of one epoch, by pairs per utterance.

python -m lightning_mi.examples.benchmarks.power              # 40 draws of each setting, a minute
python -m lightning_mi.examples.benchmarks.power --draws 10   # a look

An utterance has a speaker and a sequence of units; a segment's embedding is the sum of the speaker's vector, its
unit's vector and noise. Two models differ in the size of the noise alone, most of which they share. The settings
are the callback's: one pair an utterance or the default, K by the number of pairs, canonical clusters, utterances
as groups.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_mi import MIEstimate, mi_bound
from lightning_mi.estimator.group_scores import significance_factor
from lightning_mi.estimator.num_clusters import default_num_clusters
from lightning_mi.inputs.pairs_per_utterance import (
    MANY_PAIRS,
    MOST_PAIRS_PER_UTTERANCE,
    default_pairs_per_utterance,
)

UTTERANCES = (200, 500, 2000)
DIM, UNITS = 16, 32
SPEAKER, UNIT, NOISE = 0.5, 1.0, 0.8  # standard deviations in each dimension
STAY = 0.5  # probability that the next segment has the same unit
OWN = 0.3  # the share of the noise, as a standard deviation, that is a model's own
LESS = (0.0, 0.03, 0.06, 0.1, 0.2, 0.3, 0.45)  # by how much the better model's noise is lower
POWER = 0.8


class Draw:
    """Utterances with several pairs of segments each, and their embeddings by models of any noise."""

    def __init__(self, utterances: int, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(1000 * seed + utterances)
        speakers = SPEAKER * self._normal(utterances, 1, 1, DIM)
        shape = utterances, MOST_PAIRS_PER_UTTERANCE
        first = torch.randint(UNITS, shape, generator=self.generator)
        other = torch.randint(UNITS, shape, generator=self.generator)
        stays = torch.rand(*shape, generator=self.generator) < STAY
        units = torch.stack([first, torch.where(stays, first, other)], dim=2)
        self.clean = speakers + unit_vectors()[units]  # (utterances, pairs, 2, DIM)
        self.noise = self._normal(*self.clean.shape)

    def embeddings(self, less: float = 0.0) -> Tensor:
        """Embeddings ``(utterances, pairs, 2, DIM)`` of a model with so much less noise."""
        noise = math.sqrt(1 - OWN**2) * self.noise + OWN * self._normal(*self.clean.shape)
        return self.clean + NOISE * (1 - less) * noise

    def rounded(self, embeddings: Tensor) -> Tensor:
        """The same but for the last bits of a half-precision number."""
        return embeddings * (1 + 2**-11 * self._normal(*embeddings.shape))

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator)


def unit_vectors() -> Tensor:
    """``(UNITS, DIM)``, the same in every draw."""
    return UNIT * torch.randn(UNITS, DIM, generator=torch.Generator().manual_seed(0))


def true_information(less: Sequence[float], rows: int = 4000) -> list[float]:
    """I(Z_a; Z_b) in nats of models with so much less noise, by the mean log ratio of the densities on one draw.

    Given both units the sum and the difference of the two embeddings are independent normal vectors.
    """
    draw, found = Draw(rows, seed=987), []
    vectors = unit_vectors().double()
    same = torch.eye(UNITS, dtype=torch.float64) * STAY / UNITS
    log_joint = (same + (1 - STAY) / UNITS**2).log().flatten()
    clean, noise = draw.clean[:, 0].double(), draw.noise[:, 0].double()
    for each in less:
        sigma = NOISE * (1 - each)
        z = clean + sigma * noise  # (rows, 2, DIM)
        one, both = sigma**2 + SPEAKER**2, sigma**2 + 2 * SPEAKER**2
        singles = [(_log_normal(z[:, side], vectors, one) - math.log(UNITS)).logsumexp(1) for side in (0, 1)]
        plus = ((vectors[:, None] + vectors) / math.sqrt(2)).flatten(0, 1)
        minus = ((vectors[:, None] - vectors) / math.sqrt(2)).flatten(0, 1)
        parts = _log_normal((z[:, 0] + z[:, 1]) / math.sqrt(2), plus, both)
        parts += _log_normal((z[:, 0] - z[:, 1]) / math.sqrt(2), minus, sigma**2)
        joint = (parts + log_joint).logsumexp(1)
        found.append(float((joint - singles[0] - singles[1]).mean()))
    return found


def _log_normal(z: Tensor, means: Tensor, variance: float) -> Tensor:
    squares = z.square().sum(1, keepdim=True) - 2 * z @ means.T + means.square().sum(1)
    return -squares / (2 * variance) - z.shape[1] / 2 * math.log(2 * math.pi * variance)


def estimate(embeddings: Tensor, pairs: int, num_clusters: int, seed: int = 0) -> MIEstimate:
    """The bound of the first pairs of each utterance, as the callback makes it."""
    rows = embeddings[:, :pairs].flatten(0, 1)
    groups = torch.arange(len(embeddings)).repeat_interleave(pairs)
    return mi_bound(rows[:, 0], rows[:, 1], num_clusters, groups=groups, seed=seed, quantizer="canonical")


def is_seen(gain: float, stderr: float, num_groups: int) -> bool:
    """Whether the gain is significant."""
    return gain > significance_factor(num_groups) * stderr


def shares_at_equal_alarms(found: Sequence[Sequence[float]]) -> list[float]:
    """Shares of draws that exceed twice the spread of gains between equal models, which come first, if normal.

    Whatever the error bars say: they know little of the luck of a k-means.
    """
    threshold = 2 * math.sqrt(statistics.mean(gain**2 for gain in found[0]))
    normals = [statistics.NormalDist(statistics.mean(gains), statistics.stdev(gains)) for gains in found]
    return [1 - normal.cdf(threshold) for normal in normals]


def smallest_gain(gains: Sequence[float], shares: Sequence[float]) -> str:
    """The true gain at which the share of draws that see it reaches ``POWER``, interpolated, as text."""
    for number in range(1, len(gains)):
        low, high = shares[number - 1], shares[number]
        if high >= POWER:
            part = max(0.0, (POWER - low) / (high - low))
            return f"{gains[number - 1] + part * (gains[number] - gains[number - 1]):.2f}"
    return f"above {gains[-1]:.1f}"


def row(utterances: int, pairs: int, by_utterances: bool, draws: int, gains: Sequence[float]) -> str:
    """A row of the table."""
    num_clusters = default_num_clusters(utterances if by_utterances else utterances * pairs)
    bases, errors, jitter, luck = [], [], [], []
    found: list[list[float]] = [[] for _ in LESS]
    seen, worse = [0] * len(LESS), 0
    for seed in range(draws):
        draw = Draw(utterances, seed)
        z = draw.embeddings()
        base = estimate(z, pairs, num_clusters)
        bases.append(base.bound)
        errors.append(base.stderr)
        again = [estimate(draw.rounded(z), pairs, num_clusters).bound for _ in range(2)]
        jitter.append(statistics.variance([base.bound, *again]))
        seeds = [estimate(z, pairs, num_clusters, seed=other).bound for other in range(1, 3)]
        luck.append(statistics.variance([base.bound, *seeds]))
        for number, less in enumerate(LESS):
            gain, stderr = estimate(draw.embeddings(less), pairs, num_clusters).gain_over(base)
            found[number].append(gain)
            seen[number] += is_seen(gain, stderr, utterances)
            worse += number == 0 and is_seen(-gain, stderr, utterances)
    shares = [number / draws for number in seen]
    cells = [
        f"{utterances}",
        f"{pairs}",
        f"{num_clusters}",
        f"{statistics.mean(bases):.3f}",
        f"{statistics.mean(errors):.3f}",
        smallest_gain(gains, shares),
        smallest_gain(gains, shares_at_equal_alarms(found)),
        f"{100 * (seen[0] + worse) / draws:.0f} %",
        f"{math.sqrt(statistics.mean(jitter)):.4f}",
        f"{math.sqrt(statistics.mean(luck)):.4f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=40, help="of each setting (default: %(default)s)")
    parser.add_argument("--clusters", action="store_true", help="also with K by the number of utterances")
    options = parser.parse_args()
    torch.set_num_threads(1)
    truths = true_information(LESS)
    gains = [truth - truths[0] for truth in truths]
    print(f"true information of the base model {truths[0]:.3f} nats, largest gain {gains[-1]:.3f}")
    print(
        "| utterances | pairs each | K | bound | stderr | gain seen with 80 % power | at equal alarms "
        "| equals told apart | jitter of rounding | jitter of seeds |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for utterances in UTTERANCES:
        default = default_pairs_per_utterance(utterances, MANY_PAIRS)
        print(row(utterances, 1, False, options.draws, gains), flush=True)
        print(row(utterances, default, False, options.draws, gains), flush=True)
        if options.clusters:
            print(row(utterances, default, True, options.draws, gains), flush=True)


if __name__ == "__main__":
    main()
