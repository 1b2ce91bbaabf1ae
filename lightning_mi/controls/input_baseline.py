"""Input baseline: the bound of the input's own frames, log-mel for waveforms, pooled as the model's are."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_mi.controls.mel_bands import mel_bands
from lightning_mi.embedding.pooling import Pooling, pool
from lightning_mi.inputs.layout import Layout

_WINDOW_SECONDS, _HOP_SECONDS = 0.025, 0.010
_MOST_BANDS = 40
_FLOOR = 1e-10  # of a band's power, -100 dB


def log_mel(segments: Tensor, sample_rate: float) -> Tensor:
    """Log power in mel bands, of windows of 25 ms every 10 ms.

    Args:
        segments: ``(N, S)`` floating-point waveforms.
        sample_rate: In Hz.

    Returns:
        ``(N, T, M)`` float32 with M = 40 mel bands (fewer if the window is too short for them), on the device
        of ``segments``.

    Source:
        Davis and Mermelstein, "Comparison of parametric representations for monosyllabic word recognition", IEEE
        TASSP 1980, for the bands (:func:`lightning_mi.controls.mel_bands.mel_bands`).

    Example:
        >>> import torch
        >>> log_mel(torch.randn(3, 8000, generator=torch.Generator().manual_seed(0)), 16000).shape
        torch.Size([3, 48, 40])
    """
    window = max(2, min(round(_WINDOW_SECONDS * sample_rate), segments.shape[1]))
    hop = max(1, round(_HOP_SECONDS * sample_rate))
    num_bins = window // 2 + 1
    weights = torch.hann_window(window, dtype=torch.float32, device=segments.device)
    power = torch.fft.rfft(segments.float().unfold(1, window, hop) * weights).abs().square()
    bands = mel_bands(num_bins, min(_MOST_BANDS, max(1, num_bins // 2)), round(sample_rate))
    return (power @ bands.to(power.device)).clamp(min=_FLOOR).log()


def input_frames(samples: Tensor, layout: Layout, sample_rate: float) -> Tensor:
    """Frames of the input itself: log-mel of waveforms, feature sequences as they are.

    Args:
        samples: Segments ``(n, 1 + G, ...)`` in the layout of the batch.
        layout: That layout.
        sample_rate: Sampling rate in Hz; unused for feature sequences.

    Returns:
        ``(n, 1 + G, T, F)``.

    Example:
        >>> import torch
        >>> input_frames(torch.zeros(3, 2, 50, 8), Layout(time_dim=1), 100.0).shape
        torch.Size([3, 2, 50, 8])
    """
    frames = layout.frames(samples.flatten(0, 1))
    if layout.time_dim is None:
        frames = log_mel(frames[..., 0], sample_rate)
    return frames.unflatten(0, samples.shape[:2])


def pool_input(frames: Tensor, pooling: Pooling) -> Tensor:
    """Pool ``frames`` ``(n, 1 + G, T, F)`` of the input as a model's frames are: ``(n, 1 + G, D)`` float32.

    The mean over time is joined by the standard deviation, see :func:`frame_statistics`.

    Example:
        >>> import torch
        >>> frames = torch.zeros(3, 2, 50, 8)
        >>> pool_input(frames, "mean").shape, pool_input(frames, "boundary").shape
        (torch.Size([3, 2, 16]), torch.Size([3, 2, 8]))
    """
    return frame_statistics(frames) if pooling == "mean" else pool(frames, pooling)


def frame_statistics(frames: Tensor) -> Tensor:
    """Mean and standard deviation over time of each feature.

    Args:
        frames: ``(..., S, F)`` floating-point.

    Returns:
        ``(..., 2 * F)`` float32, the means first, on the device of ``frames``.

    Example:
        >>> import torch
        >>> frame_statistics(torch.tensor([[[1.0, 5.0], [3.0, 5.0]]]))
        tensor([[2., 5., 1., 0.]])
    """
    frames = frames.float()
    return torch.cat([frames.mean(dim=-2), frames.std(dim=-2, correction=0)], dim=-1)
