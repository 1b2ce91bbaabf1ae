"""A small synthesised corpus."""

import pytest


@pytest.fixture(scope="session")
def corpora(tmp_path_factory):
    pytest.importorskip("torchaudio")
    pytest.importorskip("sklearn")
    pytest.importorskip("espeakng_loader")
    from lightning_mi.examples.model_selection.corpora.base import DOWNSTREAM, SCORE, TRAIN
    from lightning_mi.examples.model_selection.corpora.channel import Channel
    from lightning_mi.examples.model_selection.corpora.synthesised import SynthesisedCorpora

    return SynthesisedCorpora(
        speakers={TRAIN: ["m1", "f1"], SCORE: ["m2", "Andy"], DOWNSTREAM: ["m3", "linda"]},
        utterances={TRAIN: 16, SCORE: 16, DOWNSTREAM: 24},
        channel=Channel(),
        languages=("en-us", "de"),
        root=str(tmp_path_factory.mktemp("espeak")),
    )
