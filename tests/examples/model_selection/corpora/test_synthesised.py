"""Synthesised parts have nothing in common."""

import pytest

pytest.importorskip("torchaudio")
pytest.importorskip("espeakng_loader")

from lightning_mi.examples.model_selection.corpora.base import DOWNSTREAM, PARTS, SCORE, TRAIN
from lightning_mi.examples.model_selection.corpora.synthesised import SynthesisedCorpora


def test_parts_share_neither_speakers_nor_sentences(corpora):
    parts = [corpora.load(part) for part in PARTS]
    for field in ("voice", "text"):
        sets = [{getattr(each.utterance, field) for each in part} for part in parts]
        assert len(set.union(*sets)) == sum(map(len, sets))
    with pytest.raises(ValueError, match="m1 given twice"):
        SynthesisedCorpora({TRAIN: ["m1"], SCORE: ["m1"], DOWNSTREAM: ["m2"]}, dict.fromkeys(PARTS, 4))
    with pytest.raises(ValueError, match="expected train, score, downstream"):
        SynthesisedCorpora({TRAIN: ["m1"]}, {TRAIN: 4})
