"""Null control: the bound of pairs shuffled among utterances, 0 unless near-duplicates leak."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_mi.controls.fingerprints import FINGERPRINT_SIZE, fingerprint
from lightning_mi.controls.near_duplicates import group_near_duplicates
from lightning_mi.distributed import gather
from lightning_mi.estimator import MIEstimate
from lightning_mi.estimator.group_scores import significance_factor
from lightning_mi.inputs.batches import Waveforms
from lightning_mi.inputs.segments import Segments
from lightning_mi.metrics.bounds import NullBound

_SIGNIFICANT = 3.0  # standard errors of the null above 0
_NEGLIGIBLE = 1e-3  # nats, which do not matter whatever their error
_FEW_DUPLICATES = 0.01  # share of the utterances


@dataclass(frozen=True)
class NullFinding:
    """Result of the null control.

    Attributes:
        estimate: The bound on pairs shuffled among utterances, in nats.
        duplicates: Number of utterances that share sound with one of another group.
        utterances: Number of utterances in all pairs.
    """

    estimate: MIEstimate
    duplicates: int
    utterances: int

    @property
    def leaks(self) -> bool:
        """Whether the bound is above 0 by more than 3 standard errors (more for few groups) and 0.001 nats."""
        factor = significance_factor(self.estimate.num_groups, _SIGNIFICANT)
        return self.estimate.bound > max(_NEGLIGIBLE, factor * self.estimate.stderr)

    def message(self, log_name: str, null_name: str) -> str | None:
        """What the user should know, under the logged names of the bound and of the null; ``None`` if nothing.

        Example:
            >>> estimate = MIEstimate(0.2, 0.01, 2.0, 1.8, 2.1, 8, 8, 400, 400)
            >>> NullFinding(estimate, 40, 400).message("val/mi_bound", "mi_bound/null").split(".")[0]
            'mi_bound/null is 0'
        """
        value = f"{null_name} is {self.estimate.bound:.3f} ± {self.estimate.stderr:.3f} nats"
        copies = f"{self.duplicates} of {self.utterances} utterances share sound with one of another group"
        if self.leaks:
            return (
                f"{value} and should be 0. Pairs were shuffled among utterances, and still a nearest-neighbour "
                f"probe that was fitted to one half of the data predicts the other, so {log_name} may be too high "
                f"and its error bar too small. {copies}. Likely causes: duplicated utterances (in another gain or "
                "codec, or cut elsewhere), leaked padding, a group key that is too fine. Leave the copies out, or "
                "let `batch_to_waveforms=` return the true lengths, and groups that keep copies together."
            )
        if self.duplicates > _FEW_DUPLICATES * self.utterances:
            return f"{copies}, and error bars count them as independent. {value}, so no bias is seen."
        return None


def fingerprint_utterances(segments: Segments, waveforms: Waveforms, sample_rate: float) -> Segments:
    """The segments with the fingerprints of the utterances that they were cut from.

    Args:
        segments: Segments of some rows of ``waveforms``.
        waveforms: The batch, with lengths.
        sample_rate: Sampling rate in Hz.

    Example:
        >>> from lightning_mi.inputs.segments import SegmentSampler, parse_gaps
        >>> waveforms = Waveforms(torch.randn(2, 3000), torch.tensor([3000, 3000]))
        >>> segments = SegmentSampler(0.5, parse_gaps("near"), 1000, seed=0)(waveforms)
        >>> fingerprint_utterances(segments, waveforms, 1000).fingerprints.shape
        torch.Size([2, 64])
    """
    assert waveforms.lengths is not None
    rows, inverse = segments.rows.unique(return_inverse=True)
    some = rows.to(waveforms.samples.device)
    samples = waveforms.samples[some].flatten(1)
    found = fingerprint(samples, waveforms.lengths.to(some.device)[some], sample_rate).cpu()
    return segments._replace(fingerprints=found[inverse])


@dataclass(frozen=True)
class NullControl:
    """The pairs of one process for the null control; every process must make one and call its methods.

    Args:
        z: ``(n, 2, D)``, statistics of the input's frames in both segments; ``None`` if the process has no pairs.
        groups: ``(n,)`` int64 on the host.
        keys: ``(n,)`` int64 on the host.
        utterances: ``(n,)`` int64 on the host.
        fingerprints: ``(n, 64)`` int64 on the host.
    """

    z: Tensor | None
    groups: Tensor
    keys: Tensor
    utterances: Tensor
    fingerprints: Tensor

    def near_duplicates(self) -> tuple[Tensor, int, int]:
        """Near-duplicate clusters of the utterances of all processes.

        Returns:
            The cluster of each pair of this process, ``(n,)`` int64, how many utterances share sound with one of
            another group, and how many utterances there are.
        """
        own = torch.cat([self.groups[:, None], self.utterances[:, None], self.fingerprints], dim=1)
        everyone = torch.cat(gather(own.unique(dim=0))).unique(dim=0)
        groups, names, fingerprints = everyone.split([1, 1, FINGERPRINT_SIZE], dim=1)
        groups, names = groups[:, 0], names[:, 0]
        clusters, links = group_near_duplicates(names, fingerprints)
        duplicates = links[groups[links[:, 0]] != groups[links[:, 1]]].unique()
        ordered = names.sort()
        of_pairs = clusters[ordered.indices[torch.searchsorted(ordered.values, self.utterances.contiguous())]]
        return of_pairs, len(duplicates), len(names)

    def metric(self, near_duplicates: Tensor, new_metric: Callable[[], NullBound]) -> NullBound:
        """The metric with this process's pairs, whose ``near_duplicates`` ``(n,)`` are given."""
        metric = new_metric()
        if self.z is not None and len(self.z):
            z = self.z.to(metric.device)
            numbers = (near_duplicates, self.groups, self.keys)
            metric.update(z[:, 0], z[:, 1], *(each.to(z.device) for each in numbers))
        return metric
