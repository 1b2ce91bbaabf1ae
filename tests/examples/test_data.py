"""The examples' data modules, on real parts: eSpeak NG itself, and audio files that the tests write."""

import ast
import json
import os
import pickle
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import seed_everything

from lightning_mi.examples import data
from lightning_mi.examples.data import AudioFolderDataModule, EspeakDataModule, LibriSpeechDataModule
from lightning_mi.examples.data.extras import import_extra
from lightning_mi.inputs.batches import read_batch

sf = pytest.importorskip("soundfile")
pytest.importorskip("torchaudio")


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make any attempt to synthesise fail."""
    from lightning_mi.examples.data import espeak_process

    def refuse(requests: Any) -> Iterator[Any]:
        raise AssertionError("the engine was started")
        yield

    monkeypatch.setattr(espeak_process, "speak", refuse)


SMALL: dict[str, Any] = {"utterances": 20, "voices": ["m3", "f2"], "val_fraction": 0.4, "batch_size": 4}


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> EspeakDataModule:
    """A small corpus, synthesised once for this file."""
    pytest.importorskip("espeakng_loader")
    datamodule = EspeakDataModule(root=tmp_path_factory.mktemp("espeak"), **SMALL)
    datamodule.prepare_data()
    datamodule.setup()
    return datamodule


def samples(datamodule: EspeakDataModule) -> bytes:
    return (datamodule.folder / "audio.int16").read_bytes()


def test_corpus_cache_is_reused(spoken: EspeakDataModule, no_engine: None) -> None:
    again = EspeakDataModule(root=spoken.root, **SMALL)
    again.prepare_data()
    again.setup()
    assert again.val_utterances == spoken.val_utterances
    assert [path.name for path in spoken.root.iterdir()] == [spoken.folder.name]


@pytest.mark.parametrize("change", [{"seed": 1}, {"voices": ["m3"]}, {"sample_rate": 8000}, {"utterances": 21}])
def test_corpus_cache_is_rebuilt_when_a_setting_changes(
    spoken: EspeakDataModule, no_engine: None, change: dict[str, Any]
) -> None:
    changed = EspeakDataModule(root=spoken.root, **{**SMALL, **change})
    assert changed.folder != spoken.folder
    with pytest.raises(AssertionError, match="engine was started"):
        changed.prepare_data()
    assert not list(spoken.root.glob(".building-*")), "a failed run must leave nothing behind"
    with pytest.raises(FileNotFoundError, match="prepare_data"):
        changed.setup()


def test_espeak_loader_settings_do_not_rebuild(spoken: EspeakDataModule) -> None:
    other = EspeakDataModule(root=spoken.root, **{**SMALL, "batch_size": 7, "val_fraction": 0.1})
    assert other.folder == spoken.folder


def test_espeak_is_deterministic(spoken: EspeakDataModule, tmp_path: Path) -> None:
    again = EspeakDataModule(root=tmp_path, **SMALL)
    again.prepare_data()
    assert samples(again) == samples(spoken)
    assert (again.folder / "index.json").read_bytes() == (spoken.folder / "index.json").read_bytes()


def test_espeak_loser_of_a_race_uses_the_winners_corpus(spoken: EspeakDataModule) -> None:
    from lightning_mi.examples.data import corpus_cache

    before = samples(spoken)
    corpus_cache.write_cache(spoken.folder, [], {})
    assert samples(spoken) == before
    assert [path.name for path in spoken.root.iterdir()] == [spoken.folder.name]


def test_espeak_damaged_cache_is_refused(spoken: EspeakDataModule, tmp_path: Path) -> None:
    copy = EspeakDataModule(root=tmp_path, **SMALL)
    copy.folder.mkdir()
    (copy.folder / "index.json").write_bytes((spoken.folder / "index.json").read_bytes())
    (copy.folder / "audio.int16").write_bytes(samples(spoken)[:-2])
    with pytest.raises(RuntimeError, match="damaged"):
        copy.setup()


def test_espeak_phones_lie_in_order_inside_the_utterance(spoken: EspeakDataModule) -> None:
    for dataset in (spoken.train_dataset, spoken.val_dataset):
        for index, utterance in enumerate(dataset.utterances):
            duration = len(dataset.recordings[index].read()) / spoken.sample_rate
            assert 0.8 < duration < 6
            assert len(utterance.phones) > 5
            clock = 0.0
            for symbol, start, end in utterance.phones:
                assert symbol
                assert clock <= start < end <= duration
                clock = end


def test_espeak_phones_match_the_sound(spoken: EspeakDataModule) -> None:
    # Hissing is louder above 3.5 kHz than vowels are: the times and the samples belong together.
    high: dict[bool, list[float]] = {True: [], False: []}
    for recording in (*spoken.train_dataset.recordings, *spoken.val_dataset.recordings):
        waveform = recording.read()
        for symbol, start, end in recording.utterance.phones:
            middle = int((start + end) / 2 * 16000)
            if symbol in {"s", "a", "e", "o", "i"} and 160 <= middle < len(waveform) - 160:
                power = torch.fft.rfft(waveform[middle - 160 : middle + 160]).abs().square()
                high[symbol == "s"].append(float(power[70:].sum() / power.sum()))
    assert min(map(len, high.values())) > 10
    assert np.median(high[True]) > 10 * np.median(high[False])


def test_espeak_batches(spoken: EspeakDataModule) -> None:
    seen = 0
    for batch in spoken.val_dataloader():
        waveforms, lengths = batch["waveforms"], batch["lengths"]
        assert waveforms.dtype == torch.float32
        assert lengths.dtype == batch["index"].dtype == torch.int64
        assert waveforms.shape == (len(lengths), int(lengths.max()))
        assert waveforms.abs().max() <= 1
        assert waveforms.abs().max() > 0.05
        for row, length in zip(waveforms, lengths, strict=True):
            assert not row[length:].any()
        assert batch["index"].tolist() == list(range(seen, seen + len(lengths)))
        seen += len(lengths)
    assert seen == len(spoken.val_utterances) == len(spoken.val_dataset)
    test_set = [batch["lengths"] for batch in spoken.test_dataloader()]
    assert sum(map(len, test_set)) == seen


def test_training_crops_follow_the_seed(spoken: EspeakDataModule) -> None:
    def epoch(seed: int) -> list[Any]:
        seed_everything(seed)
        return list(spoken.train_dataloader())

    first, same, other = epoch(1), epoch(1), epoch(2)
    assert all(torch.equal(a["waveforms"], b["waveforms"]) for a, b in zip(first, same, strict=True))
    assert not all(torch.equal(a["waveforms"], b["waveforms"]) for a, b in zip(first, other, strict=False))
    full = [len(recording.read()) for recording in spoken.train_dataset.recordings]
    for batch in first:
        assert len(batch["lengths"]) == 4, "the last, smaller batch is dropped"
        for index, length in zip(batch["index"].tolist(), batch["lengths"].tolist(), strict=True):
            assert length == min(full[index], 32000)


def test_split_is_disjoint_and_stable_when_the_corpus_grows(spoken: EspeakDataModule, tmp_path: Path) -> None:
    larger = EspeakDataModule(root=tmp_path, **{**SMALL, "utterances": 30})
    larger.prepare_data()
    larger.setup()
    for side in ("train_utterances", "val_utterances"):
        # The whole records: an utterance's sound does not depend on the size of the corpus either.
        assert set(getattr(spoken, side)) <= set(getattr(larger, side))
    assert samples(larger).startswith(samples(spoken))
    texts = [{u.text for u in part} for part in (larger.train_utterances, larger.val_utterances)]
    assert not texts[0] & texts[1]
    assert len(texts[0] | texts[1]) == 30
    assert all(texts)


def test_espeak_worker_processes_get_the_path_and_not_the_samples(spoken: EspeakDataModule) -> None:
    spoken.val_dataset[0]  # maps the file
    copy = pickle.dumps(spoken.val_dataset)
    assert len(copy) < 200_000 < len(samples(spoken))
    assert torch.equal(pickle.loads(copy)[0]["waveform"], spoken.val_dataset[0]["waveform"])


def test_espeak_default_corpus_has_enough_to_validate_on() -> None:
    from lightning_mi.examples.data.utterances import Recording, split

    datamodule = EspeakDataModule()
    plan = [utterance for utterance, _ in datamodule.plan()]
    train, val = split([Recording(u, torch.Tensor) for u in plan], datamodule.val_fraction)
    assert len(val) >= 700
    assert len(train) > len(val)
    assert len({u.text for u in plan}) == len({u.id for u in plan}) == len(plan)
    assert len({(u.language, u.voice) for u in plan}) == 5 * len(datamodule.voices)


def test_espeak_arguments(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="languages: no sentences for 'xx'"):
        EspeakDataModule(languages=["xx"])
    with pytest.raises(ValueError, match=r"voices='m1'.*list"):
        EspeakDataModule(voices="m1")
    with pytest.raises(ValueError, match="no variant nobody"):
        EspeakDataModule(root=tmp_path, utterances=2, voices=["m1", "nobody"]).prepare_data()
    with pytest.raises(ValueError, match="val_fraction=2"):
        EspeakDataModule(val_fraction=2)
    alone = EspeakDataModule(root=tmp_path, utterances=2, voices=["m1"], val_fraction=1e-6)
    alone.prepare_data()
    with pytest.raises(ValueError, match="leaves nothing for validation out of 2"):
        alone.setup()


def test_espeak_engine_reports_its_errors() -> None:
    from lightning_mi.examples.data.espeak_process import Request, speak

    with pytest.raises(RuntimeError, match="has no voice 'xx"):
        list(speak([Request("hello", "xx+m1", 160, 50)]))


def test_espeak_index_is_readable(spoken: EspeakDataModule) -> None:
    index = json.loads((spoken.folder / "index.json").read_text(encoding="utf-8"))
    assert index["sample_rate"] == 16000
    assert index["voices"] == ["m3", "f2"]
    assert len(index["utterances"]) == 20


def test_import_is_cheap() -> None:
    (folder,) = data.__path__
    for path in Path(folder).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            heavy = {"torchaudio", "soundfile", "espeakng_loader"} & {name.split(".")[0] for name in names}
            assert not heavy, f"{path.name} must leave {heavy} to import_extra"


@pytest.mark.parametrize("error", ["OSError", "RuntimeError"])
def test_an_extra_that_does_not_fit_torch_is_told_from_a_missing_one(tmp_path, monkeypatch, error) -> None:
    (tmp_path / "of_another_torch.py").write_text(f"raise {error}('libc10_cuda.so: no such file')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=r"does not fit torch \d.*\(libc10_cuda"):
        import_extra("of_another_torch")


def test_missing_extra_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(ImportError, match=r"lightning-mi\[examples\]"):
        EspeakDataModule(root=tmp_path, utterances=2).prepare_data()


def write_tone(path: Path, seconds: float = 1.0, rate: int = 16000, channels: int = 1, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)
    # The first channel alone carries the tone.
    sf.write(str(path), np.stack([tone] + [0 * tone] * (channels - 1), axis=1), rate, **options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "audio"
    write_tone(root / "anna" / "deep" / "er" / "one.wav", 1.0)
    write_tone(root / "anna" / "TWO.WAV", 1.5, rate=8000)
    write_tone(root / "bert" / "stereo.flac", 0.8, rate=44100, channels=2)
    write_tone(root / "bert" / "short.wav", 0.05)
    write_tone(root / "top.ogg", 1.2, rate=22050)
    (root / "notes.txt").write_text("no audio")
    (root / "prompt.g722").write_bytes(b"\0" * 100)
    return root


@pytest.mark.filterwarnings("ignore:left out")
def test_audio_folder_reads_what_lies_below(folder: Path) -> None:
    elsewhere = folder.parent / "elsewhere"
    write_tone(elsewhere / "six.wav", 0.5)
    (folder / "linked").symlink_to(elsewhere, target_is_directory=True)
    (folder / "bert" / "loop").symlink_to(folder, target_is_directory=True)
    datamodule = AudioFolderDataModule(folder, val_fraction=1.0)
    datamodule.setup()
    by_id = {u.id: (i, u) for i, u in enumerate(datamodule.val_utterances)}
    assert sorted(by_id) == [
        "anna/TWO.WAV",
        "anna/deep/er/one.wav",
        "bert/stereo.flac",
        "linked/six.wav",
        "top.ogg",
    ]
    assert by_id["anna/deep/er/one.wav"][1].voice == by_id["anna/TWO.WAV"][1].language == "anna"
    assert by_id["top.ogg"][1].voice == "audio"
    seconds = {"anna/TWO.WAV": 1.5, "anna/deep/er/one.wav": 1.0, "bert/stereo.flac": 0.8, "top.ogg": 1.2}
    for name, expected in seconds.items():
        waveform = datamodule.val_dataset[by_id[name][0]]["waveform"]
        assert waveform.dtype == torch.float32
        assert len(waveform) == pytest.approx(16000 * expected, abs=1)
        peak = 0.25 if name == "bert/stereo.flac" else 0.5  # the mean of the tone and a silent channel
        assert waveform.abs().max() == pytest.approx(peak, abs=0.06)
        loudest = torch.fft.rfft(waveform).abs().argmax() / expected
        assert loudest == pytest.approx(440, abs=2)


def test_audio_folder_names_broken_files_in_one_warning(folder: Path) -> None:
    (folder / "broken.wav").write_bytes(b"RIFF this is not a sound")
    write_tone(folder / "empty.wav", 0.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        datamodule = AudioFolderDataModule(folder, val_fraction=1.0)
        datamodule.setup()
    (message,) = [str(w.message) for w in caught if "left out" in str(w.message)]
    assert "left out 2 file(s), cannot be read: " in message
    assert "broken.wav (" in message
    assert "empty.wav (empty)" in message
    assert "left out 1 file(s), shorter than 0.1 s: " in message
    assert len(datamodule.val_dataset) == 4


@pytest.mark.filterwarnings("ignore:left out")
def test_audio_folder_min_seconds_and_memory_limit(folder: Path) -> None:
    held = AudioFolderDataModule(folder, val_fraction=1.0, min_seconds=0.9)
    read_again = AudioFolderDataModule(folder, val_fraction=1.0, min_seconds=0.9, memory_gb=0)
    held.setup()
    read_again.setup()
    assert len(held.val_dataset) == len(read_again.val_dataset) == 3
    for i in range(3):
        a, b = held.val_dataset[i]["waveform"], read_again.val_dataset[i]["waveform"]
        torch.testing.assert_close(a, b, atol=2**-15, rtol=0)


def test_audio_folder_max_seconds(tmp_path: Path) -> None:
    for i in range(4):
        write_tone(tmp_path / f"{i}.wav", 0.2 + 0.5 * i)
    datamodule = AudioFolderDataModule(tmp_path, val_fraction=1.0, min_seconds=0.5, max_seconds=1.2)
    with pytest.warns(UserWarning, match=r"left out 1 file\(s\), longer than 1.2 s: .*3.wav"):
        datamodule.setup()
    assert [utterance.id for utterance in datamodule.val_utterances] == ["1.wav", "2.wav"]
    with pytest.raises(ValueError, match=r"max_seconds=0.5: expected more than min_seconds=0.5"):
        AudioFolderDataModule(tmp_path, min_seconds=0.5, max_seconds=0.5)


def test_audio_folder_trains_on_short_files_and_long_ones(tmp_path: Path) -> None:
    for i in range(6):
        write_tone(tmp_path / f"{i}.wav", 0.2 + 0.6 * i)
    datamodule = AudioFolderDataModule(tmp_path, val_fraction=0, batch_size=3)
    datamodule.setup()
    lengths = torch.cat([batch["lengths"] for batch in datamodule.train_dataloader()])
    assert sorted(lengths.tolist()) == [3200, 12800, 22400, 32000, 32000, 32000]
    assert list(datamodule.val_dataloader()) == []


def test_audio_folder_takes_several_roots(tmp_path: Path) -> None:
    for name in ("a/de", "b/fr", "c/fr"):
        write_tone(tmp_path / name / "x.wav")
    datamodule = AudioFolderDataModule([tmp_path / name for name in ("a/de", "b/fr", "c/fr")], val_fraction=1.0)
    datamodule.setup()
    assert [u.id for u in datamodule.val_utterances] == ["de/x.wav", "fr/x.wav", "fr-2/x.wav"]
    assert [u.language for u in datamodule.val_utterances] == ["de", "fr", "fr-2"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("abcde", 5),  # speaker/chapter/file
        ("abcd", None),
    ],
)
def test_audio_folder_names_speakers_if_files_lie_in_five_folders(
    tmp_path: Path, names: str, expected: int | None
) -> None:
    for name in names:
        for i in range(2):
            write_tone(tmp_path / name / str(i) / "x.wav")
    datamodule = AudioFolderDataModule(tmp_path, val_fraction=1.0)
    datamodule.setup()
    (batch,) = datamodule.val_dataloader()
    found = read_batch(batch).speakers
    assert (None if found is None else len(found.unique())) == expected
    if found is not None:
        assert torch.equal(found[::2], found[1::2])
    write_tone(tmp_path / "one.wav")  # a file outside of any folder is nobody's
    datamodule = AudioFolderDataModule(tmp_path, val_fraction=1.0)
    datamodule.setup()
    assert "speaker" not in next(iter(datamodule.val_dataloader()))


def test_audio_folder_errors_name_the_root(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"root=.*nowhere.* is not a folder"):
        AudioFolderDataModule(tmp_path / "nowhere").setup()
    with pytest.raises(ValueError, match=r"root=.*no usable audio file.*wav"):
        AudioFolderDataModule(tmp_path).setup()
    with pytest.raises(ValueError, match=r"root=\[\]"):
        AudioFolderDataModule([])


ASTERISK = Path("/usr/share/asterisk/sounds")


@pytest.mark.speech
def test_audio_folder_on_recorded_speech() -> None:
    roots = sorted(path for path in ASTERISK.glob("*_*_*") if os.path.isdir(path))
    if not roots:
        pytest.skip("no recorded speech; on Debian: apt-get install asterisk-core-sounds-en-wav")
    datamodule = AudioFolderDataModule(roots[0])
    datamodule.setup()
    assert len(datamodule.val_dataset) > 10
    batch = next(iter(datamodule.train_dataloader()))
    assert batch["waveforms"].shape == (32, 32000)


def write_librispeech(root: Path, part: str, speakers: tuple[int, ...]) -> None:
    for speaker in speakers:
        chapter = root / "LibriSpeech" / part / str(speaker) / "7"
        lines = []
        for i in range(3):
            name = f"{speaker}-7-{i:04d}"
            write_tone(chapter / f"{name}.flac", 0.5 + 0.5 * i)
            lines.append(f"{name} SENTENCE NUMBER {i}\n")
        (chapter / f"{speaker}-7.trans.txt").write_text("".join(lines))


def test_librispeech(tmp_path: Path) -> None:
    write_librispeech(tmp_path, "train-clean-100", (11, 12))
    write_librispeech(tmp_path, "dev-clean", (13,))
    write_librispeech(tmp_path, "test-clean", (14,))
    datamodule = LibriSpeechDataModule(tmp_path, batch_size=6, crop_seconds=0.75, test_url="test-clean")
    datamodule.prepare_data()
    datamodule.setup()
    assert {u.voice for u in datamodule.train_utterances} == {"11", "12"}
    first = datamodule.val_utterances[0]
    assert (first.id, first.language, first.text) == ("13-7-0000", "en", "SENTENCE NUMBER 0")
    (batch,) = datamodule.train_dataloader()
    assert sorted(batch["lengths"].tolist()) == [8000, 8000, 12000, 12000, 12000, 12000]
    (batch,) = datamodule.val_dataloader()
    assert batch["lengths"].tolist() == [8000, 16000, 24000]
    assert len(batch["speaker"].unique()) == 1
    assert {u.voice for u in datamodule.test_dataset.utterances} == {"14"}


def test_librispeech_missing_data(tmp_path: Path) -> None:
    write_librispeech(tmp_path, "train-clean-100", (11,))
    for call in ("prepare_data", "setup"):
        with pytest.raises(FileNotFoundError, match=r"dev-clean.*root=.*download=True"):
            getattr(LibriSpeechDataModule(tmp_path), call)()
    with pytest.raises(ValueError, match="dev-nothing"):
        LibriSpeechDataModule(tmp_path, val_url="dev-nothing").prepare_data()
