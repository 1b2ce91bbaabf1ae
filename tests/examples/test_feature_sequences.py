"""The example of feature sequences."""

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from lightning_mi.examples.feature_sequences import CHANNELS, PredictFrames, Print, bound, recordings


def run(count, epochs):
    pl.seed_everything(0, verbose=False)
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        max_epochs=epochs,
        callbacks=[bound(), Print()],
    )
    train, val = (DataLoader(TensorDataset(recordings(count, seed)), 50, shuffle=seed == 1) for seed in (1, 2))
    trainer.fit(PredictFrames(), train, val)
    return trainer.callback_metrics


def test_recordings_differ_in_their_rhythm_alone():
    x = recordings(400, seed=0)
    assert x.shape == (400, 188, CHANNELS)
    power = torch.fft.rfft(x, dim=1).abs().square().mean(dim=2)
    peaks = 62.5 * (power[:, 1:].argmax(dim=1) + 1) / 188
    assert 6 < peaks.quantile(0.05) < 8
    assert 12 < peaks.quantile(0.95) < 14
    loudness = x.square().mean(dim=(1, 2))
    assert torch.corrcoef(torch.stack([loudness, peaks]))[0, 1].abs() < 0.15


def test_every_recording_gives_a_pair_and_a_line_is_printed(capsys):
    logged = run(100, epochs=1)
    assert logged["mi_bound/pairs"] == 100
    assert "nats" in capsys.readouterr().out


@pytest.mark.slow
def test_the_bound_rises_far_above_the_input_baseline():
    logged = run(1000, epochs=4)
    assert logged["mi_bound/input"] < 0.05
    assert logged["val/mi_bound"] > 1.0
