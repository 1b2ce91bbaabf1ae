"""Folders as they are: odd rates, broken headers, names, permissions, files that vanish; each is read or named."""

import os
import resource
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

sf = pytest.importorskip("soundfile")
pytest.importorskip("torchaudio")

from scipy.signal import resample_poly  # noqa: E402

from lightning_mi.examples.data import AudioFolderDataModule  # noqa: E402
from lightning_mi.examples.data.audio_files import read_audio, read_audio_file, resample  # noqa: E402
from lightning_mi.examples.data.utterances import Recording, SpeechDataset, Utterance  # noqa: E402

NOISE = np.random.default_rng(0).normal(0, 0.1, 32_000)


def write(path, x=NOISE, rate=16_000, **kwargs):
    with open(path, "wb") as file:
        sf.write(file, x, rate, format=kwargs.pop("format", "WAV"), **kwargs)


def opened(folder, **kwargs):
    """The data module, and what it warned of."""
    datamodule = AudioFolderDataModule(folder, val_fraction=1.0, **kwargs)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        datamodule.setup()
    return datamodule, [str(each.message) for each in caught]


@pytest.mark.parametrize("rate", [8_001, 11_127, 15_999, 44_101])
def test_an_odd_rate_is_resampled_as_a_tone_in_bounded_memory(rate):
    time = torch.arange(2 * rate) / rate
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = resample(torch.sin(2 * torch.pi * 440 * time), rate, 16_000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB
    assert abs(len(found) - 32_000) <= 1
    expected = torch.sin(2 * torch.pi * 440 * torch.arange(len(found)) / 16_000)
    torch.testing.assert_close(found[500:-500], expected[500:-500], atol=5e-3, rtol=0)


def test_both_resamplers_agree():
    x = torch.from_numpy(NOISE).float()
    x = torch.from_numpy(resample_poly(resample_poly(x.numpy(), 1, 4), 4, 1)).float()  # nothing near the cutoff
    reference = torch.from_numpy(resample_poly(x.numpy(), 160, 441))
    torch.testing.assert_close(resample(x, 44_100, 16_000)[500:-500], reference[500:-500], atol=5e-3, rtol=0)


@pytest.mark.parametrize("rate", [1, 400_000, 4_000_000_000])
def test_a_rate_that_is_none_is_named(rate, tmp_path):
    write(tmp_path / "a.wav")
    header = bytearray((tmp_path / "a.wav").read_bytes())
    header[24:28] = rate.to_bytes(4, "little")
    (tmp_path / "b.wav").write_bytes(header)
    datamodule, (said,) = opened(tmp_path)
    assert len(datamodule.val_dataset) == 1
    assert "b.wav (" in said


def test_samples_outside_of_1_are_scaled_and_named(tmp_path):
    write(tmp_path / "loud.wav", 20_000 * NOISE, subtype="FLOAT")
    write(tmp_path / "usual.wav")
    datamodule, (said,) = opened(tmp_path)
    waveform = datamodule.val_dataset[0]["waveform"].double().numpy()
    np.testing.assert_allclose(waveform, NOISE / np.abs(NOISE).max(), atol=1e-4)
    peak = f"{20_000 * np.abs(NOISE).max():.3g}"
    assert said.startswith("changed 1 file(s), samples outside of ±1, divided by the largest: ")
    assert f"loud.wav ({peak})" in said


def test_channels_that_cancel_are_one_of_them_and_named(tmp_path):
    write(tmp_path / "antiphase.wav", np.stack([NOISE, -0.99 * NOISE], axis=1))
    write(tmp_path / "dead.wav", np.stack([NOISE, 0 * NOISE], axis=1))
    datamodule, (said,) = opened(tmp_path)
    np.testing.assert_allclose(datamodule.val_dataset[0]["waveform"], NOISE, atol=1e-4)
    np.testing.assert_allclose(datamodule.val_dataset[1]["waveform"], NOISE / 2, atol=1e-4)
    assert said.startswith("changed 1 file(s), channels that cancel each other")
    assert "antiphase.wav" in said
    assert "dead.wav" not in said


@pytest.mark.parametrize("total", [0, 320_000, 2**36 - 1], ids=["unknown", "too long", "absurd"])
def test_a_flac_is_read_to_its_end_whatever_its_header_says(total, tmp_path):
    write(tmp_path / "a.flac", format="FLAC")
    content = bytearray((tmp_path / "a.flac").read_bytes())
    fields = int.from_bytes(content[18:26], "big")  # of STREAMINFO; the last 36 bits are the number of samples
    assert fields & (2**36 - 1) == 32_000
    content[18:26] = (fields - 32_000 + total).to_bytes(8, "big")
    expected = read_audio(tmp_path / "a.flac", 16_000)
    (tmp_path / "a.flac").write_bytes(content)
    torch.testing.assert_close(read_audio(tmp_path / "a.flac", 16_000), expected, atol=0, rtol=0)


def test_names_that_are_not_utf8_are_read_and_named(tmp_path):
    folder = os.fsencode(tmp_path)
    names = [b"caf\xe9.wav", "café.wav".encode(), b"a\nb.wav", "\U0001f600.wav".encode()]
    for name in names:
        write(os.path.join(folder, name))
    with open(os.path.join(folder, b"broken-\xe9.wav"), "wb") as file:
        file.write(b"RIFF")
    datamodule, (said,) = opened(tmp_path)
    ids = [utterance.id for utterance in datamodule.val_utterances]
    assert sorted(ids) == sorted(["caf\\xe9.wav", "café.wav", "a\nb.wav", "\U0001f600.wav"])
    assert "broken-\\xe9.wav (" in said
    said.encode()


def test_an_hour_among_short_files_is_left_out_unless_it_is_wanted(tmp_path):
    write(tmp_path / "hour.wav", np.zeros(3600 * 1_000), rate=1_000)
    for i in range(3):
        write(tmp_path / f"{i}.wav")
    datamodule, (said,) = opened(tmp_path, sample_rate=1_000)
    assert len(datamodule.val_dataset) == 3
    assert "left out 1 file(s), longer than 60 s (see `max_seconds`): " in said
    assert "hour.wav (3600 s)" in said
    assert len(opened(tmp_path, sample_rate=1_000, max_seconds=4_000)[0].val_dataset) == 4


def test_many_broken_files_are_one_warning_with_their_number(tmp_path):
    write(tmp_path / "a.wav")
    for i in range(50):
        (tmp_path / f"broken{i:02}.wav").write_bytes(b"RIFF")
    _, (said,) = opened(tmp_path)
    assert "left out 50 file(s), cannot be read: " in said
    assert said.endswith("and 45 more")


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv, to give up root's rights")
def test_a_file_and_a_folder_without_permission_are_named(tmp_path):
    write(tmp_path / "a.wav")
    write(tmp_path / "secret.wav")
    (tmp_path / "secret.wav").chmod(0)
    (tmp_path / "lost+found").mkdir(mode=0)
    rights = "-dac_override,-dac_read_search"
    drop = ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}"] if os.geteuid() == 0 else []
    code = f"""
from lightning_mi.examples.data import AudioFolderDataModule
datamodule = AudioFolderDataModule({str(tmp_path)!r}, val_fraction=1.0)
datamodule.setup()
print(len(datamodule.val_dataset))
"""
    env = os.environ | {"PYTHONPATH": str(Path.cwd())}
    command = [*drop, sys.executable, "-c", code]
    run = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert run.stdout.strip() == "1", run.stderr
    assert "left out 2 file(s), cannot be read: " in run.stderr
    assert "lost+found (Permission denied)" in run.stderr
    assert "secret.wav (" in run.stderr


def test_the_next_file_stands_in_for_one_that_vanishes(tmp_path):
    for i in range(3):
        write(tmp_path / f"{i}.wav", NOISE[: 16_000 + i])
    datamodule, _ = opened(tmp_path, memory_gb=0)
    (tmp_path / "1.wav").unlink()
    with pytest.warns(UserWarning, match=r"1\.wav can no longer be read, and the next utterance stands in"):
        (batch,) = datamodule.val_dataloader()
    assert batch["index"].tolist() == [0, 2, 2]
    assert batch["lengths"].tolist() == [16_000, 16_002, 16_002]
    assert len(list(datamodule.val_dataset)) == 3
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(RuntimeError):
        list(datamodule.val_dataloader())


def test_a_reader_that_fails_is_no_endless_search():
    tried = []

    def fails():
        tried.append(1)
        raise OSError("no such disk")

    dataset = SpeechDataset([Recording(Utterance(str(i)), fails) for i in range(1_000)])
    with pytest.warns(UserWarning, match="0 can no longer be read"), pytest.raises(OSError, match="no such disk"):
        dataset[0]
    assert len(tried) == 11
    with pytest.raises(IndexError):
        dataset[1_000]


def test_peak_and_rate_are_those_of_the_file(tmp_path):
    write(tmp_path / "a.wav", 3 * NOISE, rate=8_000, subtype="FLOAT")
    audio = read_audio_file(tmp_path / "a.wav", 16_000)
    assert audio.peak == pytest.approx(3 * np.abs(NOISE).max(), rel=1e-6)
    assert len(audio.waveform) == 64_000
    assert audio.waveform.abs().max() <= 1
