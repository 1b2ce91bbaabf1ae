"""A checkpoint's embeddings of the segments and of the truth's utterances: made once, kept on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_mi.embedding.outputs import frames_in_output

from .segments import AGAIN, ANCHOR, VARIED, VIEWS, Segments

MEAN, FRAME, EDGE = "mean", "frame", "edge"
KEPT = (MEAN, FRAME, EDGE)
"""Mean over the segment; its one frame at the border between anchor and near; the mean of those within
:data:`EDGE_SECONDS` of it."""

BOTH, CONTEXT = "both", "context"
"""Frame and mean side by side; these in the anchor, and the frame alone in its partner."""

EDGE_SECONDS = 0.08
FRAMES_PER_ANCHOR = 4  # for the scores that look at frames
_BATCH = 64


@dataclass(frozen=True)
class Embedded:
    """Embeddings of one checkpoint.

    Attributes:
        pooled: For each view and pooling ``(n, segments, D)`` float32, of the anchors that the view has.
        frames: ``(N, FRAMES_PER_ANCHOR, D)``, frames of the anchors in the view "varied", evenly spaced.
    """

    pooled: dict[tuple[str, str], Tensor]
    frames: Tensor

    def of(self, view: str, segment: str, pooling: str) -> Tensor:
        """Embeddings ``(n, D)`` of one segment of a view; ``(n, 2 D)`` where two poolings stand side by side."""
        if pooling == BOTH or (pooling == CONTEXT and segment == ANCHOR):
            return torch.cat([self.of(view, segment, FRAME), self.of(view, segment, MEAN)], dim=1)
        if pooling == CONTEXT:
            return self.of(view, segment, FRAME)
        return self.pooled[view, pooling][:, VIEWS[view].index(segment)]

    def has(self, view: str) -> bool:
        """Whether the view is there, with all of its segments."""
        return all(
            (view, pooling) in self.pooled and self.pooled[view, pooling].shape[1] == len(VIEWS[view])
            for pooling in KEPT
        )

    def is_finite(self) -> bool:
        """Whether no embedding holds NaN or infinity, as those of a diverged model do."""
        return all(bool(torch.isfinite(z).all()) for z in (*self.pooled.values(), self.frames))


@torch.inference_mode()
def embed(
    encode: Callable[[Tensor], Tensor],
    segments: Segments,
    segment_seconds: Mapping[str, float],
    views: Sequence[str] = tuple(VIEWS),
) -> Embedded:
    """Encode every segment on its own.

    Args:
        encode: ``(B, T)`` float32 waveforms -> ``(B, T', D)``.
        segments: What is encoded.
        segment_seconds: Length of the segments of each view.
        views: Those that are. There are ``frames`` where "varied" is among them.
    """
    pooled: dict[tuple[str, str], list[Tensor]] = {(view, pooling): [] for view in views for pooling in KEPT}
    frames = []
    for view in views:
        names = VIEWS[view]
        for part in segments.views[view].split(max(1, _BATCH // len(names))):
            z = frames_of(encode, part.flatten(0, 1).float() / 32768).unflatten(0, part.shape[:2])
            edge = max(1, round(z.shape[2] * EDGE_SECONDS / segment_seconds[view]))
            before = torch.tensor([name in (ANCHOR, AGAIN) for name in names])[None, :, None]
            pooled[view, MEAN].append(z.mean(dim=2))
            pooled[view, FRAME].append(torch.where(before, z[:, :, -1], z[:, :, 0]))
            pooled[view, EDGE].append(torch.where(before, z[:, :, -edge:].mean(2), z[:, :, :edge].mean(2)))
            if view == VARIED:
                at = (torch.arange(FRAMES_PER_ANCHOR) + 0.5) / FRAMES_PER_ANCHOR * z.shape[2]
                frames.append(z[:, names.index(ANCHOR)][:, at.long()])
    return Embedded(
        {key: torch.cat(parts) for key, parts in pooled.items()}, torch.cat(frames) if frames else torch.empty(0)
    )


def frames_of(encode: Callable[[Tensor], Tensor], waveforms: Tensor) -> Tensor:
    """The encoder's output ``(B, T', D)`` float32, on the host, of ``(B, T)`` waveforms."""
    frames = frames_in_output(encode(waveforms), len(waveforms))
    if frames is None or frames.ndim != 3:
        raise ValueError("encode: expected a model whose output is (B, T', D) embeddings")
    return frames.float().cpu()
