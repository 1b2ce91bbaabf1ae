"""Recorded prompts: the split into parts, families of prompts, and the config."""

import pytest

pytest.importorskip("torchaudio")
pytest.importorskip("espeakng_loader")
pytest.importorskip("soundfile")

from lightning_mi.examples.data.asterisk import PROMPT_SETS
from lightning_mi.examples.data.utterances import Utterance
from lightning_mi.examples.model_selection.corpora.base import DOWNSTREAM, PARTS, SCORE, TRAIN
from lightning_mi.examples.model_selection.corpora.channel import Channel
from lightning_mi.examples.model_selection.corpora.recorded import RecordedCorpora, by_prompt, families_of
from lightning_mi.examples.model_selection.zoo import corpora as corpora_of
from tests.helpers.asterisk_packages import RATE, WORDS, lay_out
from tests.helpers.model_selection import composed


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    texts = {f"p{i:02d}": text for i, text in enumerate(WORDS[:9])} | {"same": WORDS[0].upper() + "."}
    return RecordedCorpora(
        shares={TRAIN: 0.3, SCORE: 0.3, DOWNSTREAM: 0.4},
        utterances=dict.fromkeys(PARTS),
        packages=[str(lay_out(tmp_path_factory.mktemp("packages"), texts))],
        root=str(tmp_path_factory.mktemp("cache")),
    )


def test_prompts_are_split_with_all_of_their_utterances():
    every = [
        Utterance(f"{language}/{speaker}/p{i % 2}/0.00", language, speaker)
        for i, (language, speaker) in enumerate(
            [("en", "a"), ("en", "a"), ("es", "a"), ("es", "b"), ("es", "b"), ("fr", "c")]
        )
    ]
    folds = by_prompt(every).tolist()
    assert folds[::2] == [folds[0]] * 3
    assert folds[1::2] == [folds[1]] * 3


def test_prompts_with_the_same_words_are_a_family():
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


def test_shares_sum_to_one():
    with pytest.raises(ValueError, match="expected shares that sum to 1"):
        RecordedCorpora({TRAIN: 0.5, SCORE: 0.5, DOWNSTREAM: 0.5}, dict.fromkeys(PARTS))
    with pytest.raises(ValueError, match="shares: got"):
        RecordedCorpora({TRAIN: 1.0}, dict.fromkeys(PARTS))


@pytest.mark.parametrize("zoo", ["small", "full"])
def test_recorded_speech_is_a_choice_of_the_config(zoo):
    config, synthesised = composed(f"zoo={zoo}", "speech=recorded"), composed(f"zoo={zoo}")
    found = corpora_of(config)
    assert isinstance(found, RecordedCorpora)
    assert found.channel == Channel()
    assert config.folder == f"runs/model_selection/recorded/{zoo}"
    assert synthesised.folder == f"runs/model_selection/{zoo}"
    assert config.runs == synthesised.runs
