"""The two parts of HuBERT's pre-training that stand here instead of torchaudio's own.

torchaudio's mask generator gives every utterance of a batch as many masked frames as the shortest one gets,
and cannot mask an utterance of a few frames; its logit generator copies the codebook once per frame. These
two take their places (same calls, same parameter names) without either limit.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SpanMasks(nn.Module):
    """Replace random spans of frames by a learned vector.

    Spans of ``length`` frames start at distinct random frames, about ``prob * frames / length`` of them, and
    may overlap (Baevski et al. 2020, arXiv:2006.11477, segment 3.1). An utterance shorter than four spans
    gets spans of a quarter of its frames. At least one frame of every utterance stays in sight.

    Args:
        dim: features of a frame.
        prob: share of frames that the spans would cover if none overlapped, in (0, 1].
        length: frames in a span.
        min_spans: least number of spans in an utterance.
    """

    def __init__(self, dim: int, prob: float, length: int, min_spans: int = 2) -> None:
        super().__init__()
        self.prob, self.length, self.min_spans = prob, length, min_spans
        self.mask_embedding = nn.Parameter(torch.rand(dim))

    def draw(self, valid: Tensor) -> Tensor:
        """Draw spans inside the frames where ``valid`` (B, frames) bool is true; returns (B, frames) bool.

        The draws are made by the CPU's global generator, whatever the device.
        """
        batch, count = valid.shape
        frames = valid.sum(1, keepdim=True)
        span = (frames // 4).clamp(min=1, max=self.length)
        rounding = torch.rand(batch, 1).to(valid.device)
        spans = (self.prob * frames / span + rounding).long().clamp(min=self.min_spans)
        spans = torch.minimum(spans, torch.div(frames - 1, span, rounding_mode="floor"))
        times = torch.arange(count, device=valid.device)
        may_start = times <= frames - span
        scores = torch.rand(batch, count).to(valid.device).masked_fill(~may_start, -1.0)
        rank = scores.argsort(dim=1, descending=True).argsort(dim=1)
        starts = (rank < spans) & may_start
        mask = torch.zeros_like(starts)
        for offset in range(min(self.length, count)):
            mask[:, offset:] |= starts[:, : count - offset] & (offset < span)
        return mask & valid

    def forward(self, x: Tensor, padding_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mask frames.

        Args:
            x: (B, frames, dim) features.
            padding_mask: (B, frames) bool, true at padding, or None for no padding.

        Returns:
            The features (B, frames, dim) with the masked ones replaced, and the mask (B, frames) bool.
        """
        valid = x.new_ones(x.shape[:2], dtype=torch.bool) if padding_mask is None else ~padding_mask
        mask = self.draw(valid)
        return torch.where(mask.unsqueeze(-1), self.mask_embedding.to(x.dtype), x), mask


class ClassLogits(nn.Module):
    """Cosine similarity between projected frames and an embedding of each class, divided by 0.1.

    Hsu et al. 2021 (arXiv:2106.07447), equation 3.

    Args:
        dim: features of a frame.
        num_classes: number of classes.
        final_dim: dimension in which frames and classes are compared.
        skip_unmasked: whether to leave out the logits of unmasked frames, for a loss that ignores them.
    """

    def __init__(self, dim: int, num_classes: int, final_dim: int, skip_unmasked: bool = False) -> None:
        super().__init__()
        self.label_embeddings = nn.Parameter(torch.rand(num_classes, final_dim))
        self.final_proj = nn.Linear(dim, final_dim)
        self.skip_unmasked = skip_unmasked

    def forward(self, x: Tensor, label: Tensor, mask_m: Tensor, mask_u: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits of masked and of unmasked frames, in the layout of torchaudio's HuBERTPretrainModel.

        Args:
            x: (B, frames, dim) output of the transformer.
            label: (B, frames) int64 classes.
            mask_m: (B, frames) bool, masked frames.
            mask_u: (B, frames) bool, unmasked frames.

        Returns:
            Two float32 tensors (frames chosen, 1 + num_classes): column 0 is the logit of the true class,
            whose own column further on is -inf. The second is None with ``skip_unmasked``.
        """
        masked = self._logits(x[mask_m], label[mask_m])
        return masked, None if self.skip_unmasked else self._logits(x[mask_u], label[mask_u])

    def _logits(self, x: Tensor, label: Tensor) -> Tensor:
        projected = self.final_proj(x)
        with torch.autocast(x.device.type, enabled=False):
            classes = F.normalize(self.label_embeddings.float(), dim=-1)
            logits = F.normalize(projected.float(), dim=-1) @ classes.T / 0.1
        true = label.unsqueeze(1)
        return torch.cat([logits.gather(1, true), logits.scatter(1, true, float("-inf"))], dim=1)
