"""The zoo's recorded speech: packages of prompts, pauses, forced alignment, and the split into three parts."""

import gzip
import json
import math
import random
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

pytest.importorskip("torchaudio")
pytest.importorskip("espeakng_loader")
pytest.importorskip("soundfile")

import soundfile
from hydra import compose, initialize_config_module
from hydra.core.hydra_config import HydraConfig

from lightning_mi.examples.data.alignment import Sound, align, credible_cost
from lightning_mi.examples.data.asterisk import (
    PROMPT_SETS,
    find_prompts,
    is_direction,
    read_transcript,
    spoken_text,
)
from lightning_mi.examples.data.audio_files import resample
from lightning_mi.examples.data.espeak_process import Request, speak
from lightning_mi.examples.data.pauses import pauses, utterances_in
from lightning_mi.examples.data.sentences import sentence
from lightning_mi.examples.data.transcribed import Transcribed, find_phones
from lightning_mi.examples.data.utterances import Recording, Utterance
from lightning_mi.examples.data.warping import warp
from lightning_mi.examples.model_selection import report, report_layers, score_layers, score_zoo, train_zoo
from lightning_mi.examples.model_selection.channel import Channel
from lightning_mi.examples.model_selection.halves import LEFT_OUT, by_second_voice, by_voice, within_voice
from lightning_mi.examples.model_selection.recorded import RecordedCorpora, by_prompt, families_of
from lightning_mi.examples.model_selection.speech import PARTS, SCORE, TRAIN, TRUTH
from lightning_mi.examples.model_selection.truth import LANGUAGE, PHONE, VOICE, accuracies, truth_speech
from lightning_mi.examples.model_selection.zoo import corpora

RATE = 16000
WORDS = (
    "please enter your password followed by the pound key",
    "that is not a valid extension, try again",
    "the number you have dialed is not in service",
    "you have no new messages in this mailbox",
    "to hear these options again press nine now",
    "your call is important to us, stay on the line",
    "the conference is now locked for everybody",
    "thank you for calling and have a nice day",
    "all of our operators are busy at the moment",
    "leave your name and your number after the tone",
    "the person at extension seven is away",
    "goodbye and good luck with the weather",
    "we have forwarded your message to the manager",
    "somebody has joined the meeting this morning",
    "nobody can take your question until tomorrow",
    "choose another folder for these old recordings",
)
VARIED = Channel(gain_db=(-6.0, 6.0), tilt_db=(-3.0, 3.0), snr_db=(20.0, 40.0))


def spoken(texts, voice, rate=160, pitch=50):
    return list(speak([Request(text, voice, rate, pitch) for text in texts]))


def telephone(speech, rate=8000):
    waveform = torch.from_numpy(speech.samples / 32768).float()
    return resample(waveform, speech.sample_rate, rate)


# ---- warping


def cheapest(costs):
    """By trying every way, back from the last corner."""

    @cache
    def best(i, j):
        if i < 0 or j < 0:
            return 0.0 if i == j == -1 else math.inf
        both = best(i - 1, j - 1) + 2 * costs[i, j]
        right = best(i - 1, j - 2) + 2 * costs[i, j - 1] + costs[i, j] if j else math.inf
        down = best(i - 2, j - 1) + 2 * costs[i - 1, j] + costs[i, j] if i else math.inf
        return min(both, right, down)

    return best(costs.shape[0] - 1, costs.shape[1] - 1) / sum(costs.shape)


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (7, 7), (9, 5), (6, 11), (30, 17)])
def test_the_path_is_the_cheapest_there_is(shape):
    costs = np.random.default_rng(sum(shape)).uniform(size=shape)
    path, cost = warp(costs)
    assert cost == pytest.approx(cheapest(costs))
    assert path[0].tolist() == [0, 0] or shape == (1, 2)
    assert path[-1].tolist() == [shape[0] - 1, shape[1] - 1]
    steps = np.diff(path, axis=0)
    assert {tuple(step) for step in steps.tolist()} <= {(1, 1), (1, 0), (0, 1)}
    assert not (steps[1:].sum(axis=1) + steps[:-1].sum(axis=1) == 2).any()  # never two in a row along one axis


def test_more_than_twice_as_long_has_no_path():
    path, cost = warp(np.zeros((4, 12)))
    assert len(path) == 0
    assert cost == math.inf


# ---- pauses


def test_long_recordings_are_cut_in_their_pauses():
    tone = torch.sin(torch.arange(2 * RATE) / 3)
    silence = torch.zeros(RATE // 2)
    recording = torch.cat([silence, tone, silence, tone, silence, tone])
    found = utterances_in(recording, RATE, shortest=1.0, longest=4.0, side=1.7)
    assert found == [(0.45, 2.55), (2.95, 5.05), (5.45, 7.5)]
    assert utterances_in(recording, RATE, shortest=3.0, longest=4.0, side=1.7) == []
    assert utterances_in(1e-4 * torch.randn(4 * RATE), RATE, 1.0, 4.0, 1.7) == []
    assert utterances_in(torch.zeros(0), RATE, 1.0, 4.0, 1.7) == []
    with pytest.raises(ValueError, match="longest=3"):
        utterances_in(recording, RATE, 1.0, 3.0, 1.7)


def test_short_silence_is_a_pause_at_the_ends_only():
    tone = torch.sin(torch.arange(RATE // 2) / 3)
    short, long = torch.zeros(RATE // 10), torch.zeros(RATE // 5)
    found = pauses(torch.cat([short, tone, short, tone, long, tone]), RATE)
    assert found[:10].all()
    assert not found[10:120].any()
    assert found[120:140].all()
    assert not found[140:].any()


# ---- alignment


def test_phones_are_found_where_they_were_spoken():
    """Another voice at other speeds over another channel, whose phones' times are known."""
    rates = [(130, 160, 190)[i % 3] for i in range(len(WORDS))]
    said = [spoken([text], "en-us+m3", rate, 40)[0] for text, rate in zip(WORDS, rates, strict=True)]
    sounds = [
        Sound.of(VARIED.apply(resample(telephone(each), 8000, RATE), text))
        for each, text in zip(said, WORDS, strict=True)
    ]
    found = align(sounds, spoken(WORDS, "en-us+f3"))
    right = frames = 0
    late = []
    for each, alignment in zip(said, found, strict=True):
        assert [symbol for symbol, _, _ in alignment.phones] == [symbol for symbol, _, _ in each.phones]
        for (_, start, end), (_, first, last) in zip(each.phones, alignment.phones, strict=True):
            right += max(0.0, min(end, last) - max(start, first))
            frames += end - start
            late.append(first - start)
    assert right / frames > 0.9
    assert abs(np.median(late)) < 0.005
    assert np.median(np.abs(late)) < 0.01
    costs, wrong = (np.array([getattr(each, name) for each in found]) for name in ("cost", "wrong_cost"))
    assert (costs < wrong).all()
    assert costs.max() < credible_cost(found)


def test_other_words_have_no_phones():
    waveforms = [resample(telephone(each), 8000, RATE) for each in spoken(WORDS, "en-us+m3")]
    texts = [*WORDS[:-1], "the quick brown fox jumps over the lazy dog"]
    found = find_phones([Transcribed(w, text, "en-us", "m3") for w, text in zip(waveforms, texts, strict=True)])
    assert [bool(phones) for phones in found] == [True] * (len(WORDS) - 1) + [False]


def test_as_many_recordings_as_texts():
    with pytest.raises(ValueError, match="got 0 and 1"):
        align([], spoken(WORDS[:1], "en-us"))


# ---- packages


def test_transcripts(tmp_path):
    path = tmp_path / "core.txt.gz"
    lines = [
        "\ufeff; a title: of it",
        "",
        "vm-goodbye: Goodbye!",
        "vm-goodbye: Bye",
        "is:",
        "two words: x",
        "beep: [1]",
    ]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    assert read_transcript(path) == {"vm-goodbye": "Goodbye!", "beep": "[1]"}


@pytest.mark.parametrize(
    ("text", "direction", "words"),
    [
        ("Goodbye!", False, "Goodbye!"),
        ("[this is a simple beep tone]", True, ""),
        ("(1 second of silence)", True, ""),
        ("<beep ascending>", True, ""),
        ("slash [/]", False, "slash"),
        ("Sorry, [that] is not valid.", False, ""),
        ("conf-adminmenu: Press 1.", False, ""),
        ("La conferenza ? piena.", False, ""),
        ("Who is it? Say your name.", False, "Who is it? Say your name."),
    ],
)
def test_what_is_said(text, direction, words):
    assert is_direction(text) == direction
    if not direction:
        assert spoken_text(text) == words


def lay_out(root, texts):
    """Sets as the packages lay them out, spoken by eSpeak NG: some with texts, some without, two of raw GSM files."""
    sounds, docs = root / "usr/share/asterisk/sounds", root / "usr/share/doc"
    for prompts, voice in zip(PROMPT_SETS, ("m3", "m3", "f2", "m1", "f4", "f5", "m7", "linda"), strict=True):
        folder = sounds / prompts.folder
        folder.mkdir(parents=True)
        for name, speech in zip(texts, spoken(texts.values(), f"en-us+{voice}", 150), strict=True):
            options = {"format": "RAW", "subtype": "GSM610"} if prompts.ending == ".gsm" else {}
            waveform = torch.cat([torch.zeros(4000), telephone(speech), torch.zeros(4000)]).numpy()
            soundfile.write(folder / f"{name}{prompts.ending}", waveform, 8000, **options)
        soundfile.write(folder / "silent.wav", np.zeros(16000), 8000)
        soundfile.write(folder / "beep.wav", np.sin(np.arange(16000)), 8000)
        if prompts.transcript is not None:
            lines = [f"{name}: {text}" for name, text in texts.items()] + ["beep: [a tone]", "silent: nothing"]
            file = docs / prompts.transcript / f"{prompts.transcript.removeprefix('asterisk-')}.txt.gz"
            file.parent.mkdir(parents=True)
            file.write_bytes(gzip.compress("\n".join(lines).encode()))
    return root


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    texts = {f"p{i:02d}": text for i, text in enumerate(WORDS[:9])} | {"same": WORDS[0].upper() + "."}
    return lay_out(tmp_path_factory.mktemp("packages"), texts)


@pytest.fixture(scope="module")
def recorded(packages, tmp_path_factory):
    return RecordedCorpora(
        shares={TRAIN: 0.3, SCORE: 0.3, TRUTH: 0.4},
        utterances=dict.fromkeys(PARTS),
        packages=[str(packages)],
        root=str(tmp_path_factory.mktemp("cache")),
    )


def test_prompts_are_found(packages):
    found = find_prompts([packages / "nothing", packages])
    assert {(each.language, each.voice) for each in found.prompts} == {(s.language, s.voice) for s in PROMPT_SETS}
    assert "beep" not in {each.name for each in found.prompts}
    raw = next(each for each in found.prompts if each.voice == "July" and each.name == "p00")
    clear = next(each for each in found.prompts if each.voice == "Paola" and each.name == "p00")
    assert raw.text == clear.text == ""
    assert raw.read(RATE).std() > 0.02
    assert abs(len(clear.read(RATE)) / RATE - soundfile.info(clear.path).duration) < 0.01
    assert next(each for each in found.prompts if each.id == "en-us/Allison/p00").text == WORDS[0]


def test_missing_packages_are_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="apt-get download asterisk-core-sounds-en-wav asterisk-core-sounds-en"
    ):
        find_prompts([tmp_path])


def test_families():
    said = {"bye": {"Goodbye!", "Adieu"}, "end": {"goodbye"}, "last": {"adieu."}, "new": {"Hi"}, "none": set()}
    assert families_of(said) == {"bye": "bye", "end": "bye", "last": "bye", "new": "new", "none": "none"}


def test_no_prompt_is_in_two_parts(recorded):
    parts = {part: recorded.load(part) for part in PARTS}
    names = {part: {each.utterance.id.split("/")[2] for each in found} for part, found in parts.items()}
    assert set.union(*names.values()) == {f"p{i:02d}" for i in range(9)} | {"same"}
    assert sum(map(len, names.values())) == 10
    assert any({"p00", "same"} <= found for found in names.values())  # they have the same words
    for part, found in parts.items():
        assert {each.utterance.voice for each in found} == {prompts.voice for prompts in PROMPT_SETS}
        for each in found:
            phones = each.utterance.phones
            seconds = len(each.read()) / RATE
            assert 1.0 <= seconds <= 5.0
            assert all(0 <= start < end <= seconds + 1e-6 for _, start, end in phones)
        transcribed = [
            each for each in found if each.utterance.voice in ("Allison", "June", "Carlo", "IvrvoiceRU")
        ]
        labelled = [each for each in found if each.utterance.phones]
        assert {each.utterance.id for each in labelled} <= {each.utterance.id for each in transcribed}
        assert bool(labelled) == (part != TRAIN)
    again = recorded.load(SCORE)
    assert [each.utterance for each in again] == [each.utterance for each in parts[SCORE]]
    with pytest.raises(ValueError, match="part='test'"):
        recorded.load("test")


def test_shares_are_shares():
    with pytest.raises(ValueError, match="expected shares of 1"):
        RecordedCorpora({TRAIN: 0.5, SCORE: 0.5, TRUTH: 0.5}, dict.fromkeys(PARTS))
    with pytest.raises(ValueError, match="shares: got"):
        RecordedCorpora({TRAIN: 1.0}, dict.fromkeys(PARTS))


# ---- halves, and the truth of what is labelled in part


def test_halves():
    spoken_by = [("en", "a"), ("en", "a"), ("es", "a"), ("es", "b"), ("es", "b"), ("fr", "c")]
    every = [
        Utterance(f"{language}/{voice}/p{i % 2}/0.00", language, voice)
        for i, (language, voice) in enumerate(spoken_by)
    ]
    assert by_voice(every).tolist() == [0, 0, 0, 1, 1, 0]
    assert within_voice(every).tolist() == [0, 1, 0, 0, 1, 0]
    assert by_second_voice(every).tolist() == [LEFT_OUT, LEFT_OUT, 0, 1, 1, LEFT_OUT]
    prompts = by_prompt(every).tolist()
    assert prompts[::2] == [prompts[0]] * 3
    assert prompts[1::2] == [prompts[1]] * 3


def test_what_has_no_phones_is_left_out_of_the_truth_for_phones_alone():
    rng = np.random.default_rng(0)
    recordings = []
    for i in range(80):
        symbols = rng.permutation(["a", "b"])
        waveform = torch.cat([torch.full((8000,), {"a": 0.1, "b": 0.9}[symbol]) for symbol in symbols])
        phones = tuple((symbol, k / 2, (k + 1) / 2) for k, symbol in enumerate(symbols)) if i % 4 else ()
        utterance = Utterance(f"x/{i}", "en", "v" if i % 2 else "w", phones=phones)
        recordings.append(Recording(utterance, lambda x=waveform if i % 2 else -waveform: x))
    halves = {PHONE: within_voice, VOICE: within_voice, LANGUAGE: within_voice}
    speech = truth_speech(recordings, halves, crop_seconds=1.0, frames=12)
    assert len(speech.waveforms) == 80
    assert (speech.halves[PHONE] == LEFT_OUT).sum() == 20
    assert (speech.halves[VOICE] != LEFT_OUT).all()

    def encode(waveforms):
        frames = waveforms.unflatten(1, (-1, 160)).mean(dim=2)
        return torch.stack([frames.abs(), frames.sign()], dim=2)

    speech = replace(speech, languages=rng.choice(["en", "es"], size=80))
    found = accuracies(encode, speech)
    assert found[PHONE] == found[VOICE] == 1
    assert found[LANGUAGE] < 0.8


def test_crops_of_an_utterance_stay_in_one_half():
    phones = tuple((symbol, 0.5 * i, 0.5 * (i + 1)) for i, symbol in enumerate("abcdef"))
    recordings = [
        Recording(Utterance(f"x/{i}", "en", "v", phones=phones), lambda: torch.arange(3 * RATE + 7) / RATE)
        for i in range(4)
    ]
    halves = dict.fromkeys((PHONE, VOICE, LANGUAGE), within_voice)
    speech = truth_speech(recordings, halves, crop_seconds=1.0, frames=4, crops=5)
    assert speech.waveforms.shape == (12, RATE)
    assert speech.halves[PHONE].tolist() == [0] * 3 + [1] * 3 + [0] * 3 + [1] * 3
    starts = speech.waveforms[:, 0].double()
    assert starts.tolist() == [0, 1, 2] * 4
    at = ((starts[:, None] + speech.seconds) / 0.5).long().numpy()
    assert (np.array(list("abcdef"))[at] == speech.phones).all()
    assert len(truth_speech(recordings, halves, crop_seconds=1.0, frames=4).waveforms) == 4


# ---- configs


@pytest.mark.parametrize("zoo", ["small", "full"])
def test_recorded_is_a_choice_of_the_config(zoo):
    with initialize_config_module("lightning_mi.configs", version_base="1.3"):
        config = compose("model_selection", overrides=[f"zoo={zoo}", "speech=recorded"])
        synthesised = compose("model_selection", overrides=[f"zoo={zoo}"])
    found = corpora(config)
    assert isinstance(found, RecordedCorpora)
    assert found.channels[TRAIN] == Channel((-12.0, 6.0), (-3.0, 3.0), (15.0, 40.0))
    assert config.folder == f"runs/model_selection/recorded/{zoo}"
    assert synthesised.folder == f"runs/model_selection/{zoo}"
    assert config.runs == synthesised.runs


# ---- the programs


@pytest.mark.slow
def test_the_zoo_on_recorded_speech(tmp_path):
    """Train, score, report, and once more by layers."""
    rng = random.Random(0)
    texts = {f"p{i:02d}": sentence("en-us", rng) for i in range(60)}
    overrides = [
        "zoo=small",
        "speech=recorded",
        f"speech.packages=[{lay_out(tmp_path / 'packages', texts)}]",
        f"speech.root={tmp_path / 'cache'}",
        "speech.utterances={train: 100, score: 140, truth: 140}",
        f"folder={tmp_path / 'zoo'}",
        "report.bootstraps=50",
        "report.splits=10",
        "steps=[5,20]",
        "~runs.cpc_across",
        "~runs.apc_near",
        "~runs.hubert_few_classes",
        "~runs.untrained_hubert",
        "~runs.cpc_decayed",
    ]
    with initialize_config_module("lightning_mi.configs", version_base="1.3"):
        config = compose("model_selection", overrides=overrides)
    try:
        for program in (train_zoo, score_zoo, report, score_layers, report_layers):
            program.main.__wrapped__(config)
    finally:
        HydraConfig.instance().cfg = None
    table = (tmp_path / "zoo/report/table.md").read_text()
    assert "7 checkpoints of 4 runs" in table
    for truth in ("Phone", "Voice", "Language"):
        assert f"## {truth} accuracy" in table
    assert "Layers of 7 checkpoints" in (tmp_path / "zoo/report/layers.md").read_text()
    # eight sets by seven voices: whoever tells none of them apart is right one time in seven
    found = [json.loads(path.read_text()) for path in sorted((tmp_path / "zoo/truth").glob("*.json"))]
    assert len(found) == 7
    assert max(each[VOICE] for each in found) > 0.4
    assert max(each[PHONE] for each in found) > 0.1
