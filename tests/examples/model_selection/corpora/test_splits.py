"""Two folds of utterances."""

import pytest

pytest.importorskip("torchaudio")

from lightning_mi.examples.data.utterances import Utterance
from lightning_mi.examples.model_selection.corpora.splits import (
    LEFT_OUT,
    by_second_speaker,
    by_speaker,
    within_speaker,
)


def test_folds_by_speaker_within_speaker_and_by_language():
    spoken_by = [("en", "a"), ("en", "a"), ("es", "a"), ("es", "b"), ("es", "b"), ("fr", "c")]
    every = [
        Utterance(f"{language}/{voice}/p{i % 2}/0.00", language, voice)
        for i, (language, voice) in enumerate(spoken_by)
    ]
    assert by_speaker(every).tolist() == [0, 0, 0, 1, 1, 0]
    assert within_speaker(every).tolist() == [0, 1, 0, 0, 1, 0]
    assert by_second_speaker(every).tolist() == [LEFT_OUT, LEFT_OUT, 0, 1, 1, LEFT_OUT]
