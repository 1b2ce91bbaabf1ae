"""Embeddings of the segments: every segment encoded on its own and pooled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_mi.embedding.outputs import frames_in_output
from lightning_mi.examples.model_selection.scores.conditions import AGAIN, ANCHOR, CONDITIONS, SHARED
from lightning_mi.examples.model_selection.scores.segments import Segments

MEAN, BOUNDARY, CENTER = "mean", "boundary", "center"
POOLINGS = (MEAN, BOUNDARY, CENTER)
"""The callback's ``pooling``: the mean over the segment, its frame next to the border with its neighbour, or
the one at its centre."""

FRAMES_PER_ANCHOR = 4  # for the baselines that take frames
_BATCH = 64


@dataclass(frozen=True)
class Embedded:
    """Embeddings of one checkpoint.

    Attributes:
        pooled: For each condition and pooling ``(n, segments, D)`` float32, of the anchors that have room for it.
        frames: ``(N, FRAMES_PER_ANCHOR, D)``, evenly spaced frames of the anchors under the condition ``SHARED``.
    """

    pooled: dict[tuple[str, str], Tensor]
    frames: Tensor

    def of(self, condition: str, segment: str, pooling: str) -> Tensor:
        """Embeddings ``(n, D)`` of one segment."""
        return self.pooled[condition, pooling][:, CONDITIONS[condition].segments.index(segment)]

    def has(self, condition: str) -> bool:
        """Whether all segments of the condition are there."""
        count = len(CONDITIONS[condition].segments)
        keys = [(condition, pooling) for pooling in POOLINGS]
        return all(key in self.pooled and self.pooled[key].shape[1] == count for key in keys)

    def is_finite(self) -> bool:
        """Whether no embedding holds NaN or infinity; those of a diverged model do."""
        return all(bool(torch.isfinite(z).all()) for z in (*self.pooled.values(), self.frames))


@torch.inference_mode()
def embed(
    encode: Callable[[Tensor], Tensor], segments: Segments, conditions: Sequence[str] = tuple(CONDITIONS)
) -> Embedded:
    """Encode every segment on its own.

    Args:
        encode: ``(B, T)`` float32 waveforms -> ``(B, T', D)``.
        segments: The segments to encode.
        conditions: Names in :data:`CONDITIONS`; without ``SHARED`` there are no ``frames``.
    """
    pooled: dict[tuple[str, str], list[Tensor]] = {(name, how): [] for name in conditions for how in POOLINGS}
    frames = []
    for name in conditions:
        names = CONDITIONS[name].segments
        for part in segments.waveforms[name].split(max(1, _BATCH // len(names))):
            z = frames_of(encode, part.flatten(0, 1).float() / 32768).unflatten(0, part.shape[:2])
            before = torch.tensor([segment in (ANCHOR, AGAIN) for segment in names])[None, :, None]
            pooled[name, MEAN].append(z.mean(dim=2))
            pooled[name, BOUNDARY].append(torch.where(before, z[:, :, -1], z[:, :, 0]))
            pooled[name, CENTER].append(z[:, :, z.shape[2] // 2])
            if name == SHARED:
                at = (torch.arange(FRAMES_PER_ANCHOR) + 0.5) / FRAMES_PER_ANCHOR * z.shape[2]
                frames.append(z[:, names.index(ANCHOR)][:, at.long()])
    return Embedded(
        {key: torch.cat(parts) for key, parts in pooled.items()}, torch.cat(frames) if frames else torch.empty(0)
    )


def frames_of(encode: Callable[[Tensor], Tensor], waveforms: Tensor) -> Tensor:
    """The encoder's output ``(B, T', D)`` float32 on the host, of ``(B, T)`` waveforms."""
    frames = frames_in_output(encode(waveforms), len(waveforms))
    if frames is None or frames.ndim != 3:
        raise ValueError("encode: expected a model whose output is (B, T', D) embeddings")
    return frames.float().cpu()
