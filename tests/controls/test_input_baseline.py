"""Log-mel frames and their statistics, against torchaudio and numpy; runs are in tests/integration."""

import pytest
import torch

from lightning_mi.controls.input_baseline import frame_statistics, log_mel


@pytest.mark.parametrize("rate", [8000, 16000])
def test_log_mel_is_that_of_torchaudio(rate):
    torchaudio = pytest.importorskip("torchaudio", exc_type=(ImportError, OSError, RuntimeError))
    x = torch.randn(4, rate // 2)
    window, hop = round(0.025 * rate), round(0.010 * rate)
    reference = torchaudio.transforms.MelSpectrogram(
        rate, n_fft=window, hop_length=hop, n_mels=40, center=False, norm=None, mel_scale="htk"
    )(x).log()
    frames = log_mel(x, rate)
    torch.testing.assert_close(frames, reference.mT, atol=1e-3, rtol=1e-3)
    found = frame_statistics(frames)
    torch.testing.assert_close(found[:, :40], reference.mean(dim=2), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(found[:, 40:], reference.std(dim=2, correction=0), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("samples", "rate"), [(3, 100), (500, 1000), (40, 16000), (8000, 44100)])
def test_log_mel_takes_any_length_and_rate(samples, rate):
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        found = log_mel(torch.randn(2, samples).to(dtype), rate)
        assert found.dtype == torch.float32
        assert bool(torch.isfinite(found).all())


def test_silence_and_noise_are_told_apart():
    noise = torch.randn(1, 8000)
    quiet, loud, silent = log_mel(torch.cat([0.01 * noise, noise, 0 * noise]), 16000).mean(dim=1)
    assert bool((loud > quiet + 9).all())  # 40 dB are 9.2 nats
    assert bool((silent < quiet).all())


def test_frame_statistics_are_those_of_numpy():
    x = torch.randn(3, 50, 7).double()
    found = frame_statistics(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found[:, :7].double(), torch.from_numpy(x.numpy().mean(axis=1)))
    torch.testing.assert_close(found[:, 7:].double(), torch.from_numpy(x.numpy().std(axis=1)))
