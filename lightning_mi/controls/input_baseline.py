"""What a model of waveforms has to beat: the log-mel spectrogram of a segment."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

_WINDOW_SECONDS, _HOP_SECONDS = 0.025, 0.010
_MOST_BANDS = 40
_FLOOR = 1e-10  # of a band's power, -100 dB


def log_mel(segments: Tensor, sample_rate: float) -> Tensor:
    """Log power in mel bands, of windows of 25 ms every 10 ms.

    Args:
        segments: ``(N, S)`` floating-point waveforms.
        sample_rate: In Hz.

    Returns:
        ``(N, T, M)`` float32 with M = 40 mel bands (fewer where the window is too short for them), on the device
        of ``segments``.

    Raises:
        ImportError: If torchaudio is not installed, or does not fit to the torch beside it.

    Source:
        Davis and Mermelstein, "Comparison of parametric representations for monosyllabic word recognition", IEEE
        TASSP 1980, for the bands (torchaudio's, on the HTK scale).

    Example:
        >>> import torch
        >>> log_mel(torch.randn(3, 8000, generator=torch.Generator().manual_seed(0)), 16000).shape
        torch.Size([3, 48, 40])
    """
    from torchaudio.functional import melscale_fbanks

    window = max(2, min(round(_WINDOW_SECONDS * sample_rate), segments.shape[1]))
    hop = max(1, round(_HOP_SECONDS * sample_rate))
    num_bins = window // 2 + 1
    frames = segments.float().unfold(1, window, hop) * torch.hann_window(window, device=segments.device)
    power = torch.fft.rfft(frames).abs().square()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a band that no bin falls into
        bands = melscale_fbanks(
            num_bins, 0.0, sample_rate / 2, min(_MOST_BANDS, max(1, num_bins // 2)), round(sample_rate)
        )
    return (power @ bands.to(power)).clamp(min=_FLOOR).log()
