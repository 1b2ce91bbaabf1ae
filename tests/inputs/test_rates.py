"""Sampling rates in batches, and resampling row by row."""

from types import SimpleNamespace

import pytest
import torch
import torchaudio

from lightning_mi.inputs.batches import read_batch
from lightning_mi.inputs.rates import resampled, stated_rate
from lightning_mi.inputs.structure import UnknownStructureError

B, T = 3, 9000
LENGTHS = torch.tensor([9000, 7000, 5000])
WAVES = torch.randn(B, T, generator=torch.Generator().manual_seed(0)) * (torch.arange(T) < LENGTHS[:, None])
ROWS = [row[:length] for row, length in zip(WAVES, LENGTHS.tolist(), strict=True)]


@pytest.mark.parametrize(
    "batch",
    [
        {"audio": {"array": WAVES, "sampling_rate": torch.full((B,), 8000)}},
        {"audio": WAVES, "sample_rate": 8000},
        {"audio": WAVES, "sr": torch.full((B, 1), 8000.0)},
        {"wav": WAVES, "fs": [8000] * B},
        {"noise": {"array": torch.zeros(B, 5), "sr": 44_100}, "speech": {"array": WAVES, "sr": 8000}},
        (WAVES, torch.full((B,), 8000), ["a"] * B),
        (WAVES, 8000, ["a"] * B),
        SimpleNamespace(data=WAVES, sample_rate=8000),
        [SimpleNamespace(data=row[None], sample_rate=8000) for row in ROWS],
        [{"audio": {"array": row.numpy(), "sampling_rate": 8000}, "text": "a"} for row in ROWS],
        [(row[None], 8000, "a", 3) for row in ROWS],
    ],
)
def test_rates_are_read(batch):
    found = read_batch(batch)
    assert torch.equal(found.waveforms.samples.reshape(B, T), WAVES)
    assert found.waveforms.lengths.tolist() == LENGTHS.tolist()
    assert found.rates.tolist() == [8000.0] * B


@pytest.mark.parametrize(
    "batch",
    [
        WAVES,
        {"audio": WAVES, "orig_sr": 48_000},  # before it was resampled
        {"audio": WAVES, "fs": 3},
        (WAVES, torch.full((B,), 9000)),
        (WAVES * (torch.arange(T) < 8000), torch.full((B,), 8000)),  # lengths, with padding behind
        (WAVES, torch.tensor([8000, 16_000, 2])),  # labels
    ],
)
def test_other_numbers_are_no_rates(batch):
    assert read_batch(batch).rates is None


def test_different_rates_of_one_waveform_are_refused():
    with pytest.raises(UnknownStructureError, match=r"batch\['sr'\], batch\['fs'\](.|\n)*batch_to_waveforms="):
        read_batch({"audio": WAVES, "sr": 16_000, "fs": 8000})


@pytest.mark.parametrize("channel", [False, True])
def test_rows_are_resampled_by_themselves(channel):
    samples = WAVES[:, None] if channel else WAVES
    rates = torch.tensor([8000.0, 44_100.0, 16_000.0], dtype=torch.float64)
    found, lengths = resampled(samples, LENGTHS, rates, 16_000)
    for row, length, rate, sound in zip(found.flatten(1), lengths.tolist(), rates.tolist(), ROWS, strict=True):
        expected = torchaudio.functional.resample(sound, int(rate), 16_000)
        torch.testing.assert_close(row[:length], expected, atol=1e-4, rtol=1e-4)
        assert not row[length:].any()
    alone, _ = resampled(samples[:1], LENGTHS[:1], rates[:1], 16_000)
    assert torch.equal(alone.flatten(), found.flatten(1)[0, : lengths[0]])  # its name is made of it


def test_rates_without_a_small_ratio_are_refused():
    with pytest.raises(
        UnknownStructureError, match=r"16001 Hz, got `sample_rate=16000`(.|\n)*`sample_rate=16001`"
    ):
        resampled(WAVES, LENGTHS, torch.full((B,), 16_001.0), 16_000)


@pytest.mark.parametrize(
    ("holder", "expected"),
    [
        (SimpleNamespace(hparams={"sampling_rate": 8000}), 8000),
        (SimpleNamespace(sample_rate=22050.0), 22050),
        (SimpleNamespace(hparams={"sr": True, "sample_rate": 3}), None),
        (SimpleNamespace(hparams=None), None),
        (None, None),
    ],
)
def test_a_rate_that_a_module_states(holder, expected):
    assert stated_rate(None, holder) == expected
