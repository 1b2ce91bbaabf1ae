"""The benchmark in small: synthesised speech, spectra, and a packaged encoder if one is installed."""

from importlib.util import find_spec

import numpy as np
import pytest

pytest.importorskip("torchaudio")
pytest.importorskip("sklearn")
pytest.importorskip("espeakng_loader")

import torch
from scipy.stats import spearmanr

from lightning_mi.examples.data.espeak import EspeakDataModule
from lightning_mi.examples.model_selection.corpora.base import LANGUAGE, PHONE, SPEAKER
from lightning_mi.examples.model_selection.corpora.splits import by_speaker, within_speaker
from lightning_mi.examples.model_selection.probes import accuracies, downstream_speech
from lightning_mi.examples.public_encoders.conditions import CONDITIONS
from lightning_mi.examples.public_encoders.embed import segment_embeddings
from lightning_mi.examples.public_encoders.encoders.recurrent import SpeakerLSTM, resemblyzer
from lightning_mi.examples.public_encoders.registry import ENCODERS, HAND_MADE, PRETRAINED, SEARCH, Encoder
from lightning_mi.examples.public_encoders.scores import Scorer, Setting

(VIEWS,) = (each for each in CONDITIONS if each.name == "views, 0.5 s")
ROOM = 29600  # samples that two segments at the highest speed and half a second between them need


def spoken(root, voices, count, seed):
    source = EspeakDataModule(count, ("en-us", "de"), voices, str(root), val_fraction=0.0, seed=seed)
    source.prepare_data()
    return source.load_recordings()


@pytest.fixture(scope="module")
def taps(tmp_path_factory):
    root = tmp_path_factory.mktemp("espeak")
    waveforms = [each.read() for each in spoken(root, ("m1", "f1", "m4", "f4"), 440, seed=0)]
    scored = [waveform for waveform in waveforms if len(waveform) >= ROOM]
    probed = downstream_speech(
        spoken(root, ("m3", "linda"), 200, seed=1),
        {PHONE: by_speaker, SPEAKER: within_speaker, LANGUAGE: by_speaker},
        crop_seconds=1.0,
        frames=8,
    )
    hand_made = [each for each in ENCODERS if each.kind == HAND_MADE]
    others = [Encoder("untrained", SEARCH, "random", SpeakerLSTM)]
    if find_spec("resemblyzer") is not None:
        others.append(Encoder("Resemblyzer", SEARCH, PRETRAINED, resemblyzer))
    found = {}
    for encoder in hand_made + others:
        torch.manual_seed(0)
        model = encoder.load().eval()
        embedded = segment_embeddings(encoder, model, VIEWS, scored)
        names = [key.removesuffix("/center") for key in embedded if key != "groups"]
        for tap in names:
            score = Scorer(tap, {VIEWS.name: embedded}, torch.empty(0))
            values = {
                "same": score(Setting(("same",), less="", condition=VIEWS.name)),
                "content": score(Setting(("same",), condition=VIEWS.name)),
            }
            phones = accuracies(lambda w, tap=tap, model=model: model(w)[tap], probed, (PHONE,))[PHONE]
            found[f"{encoder.name}/{tap}"] = values | {"phones": phones}
    return found


@pytest.mark.slow
def test_content_ranks_representations_as_a_probe_for_phones_does(taps):
    print({name: {key: round(value, 3) for key, value in each.items()} for name, each in taps.items()})
    assert len(taps) >= 10
    phones = np.array([each["phones"] for each in taps.values()])
    content = np.array([each["content"] for each in taps.values()])
    assert spearmanr(content, phones).statistic > 0.5
    # What tells no phones apart has no content; what tells them apart best has.
    assert taps["spectra, judge/constant"]["content"] == pytest.approx(0, abs=0.02)
    best = max(taps.values(), key=lambda each: each["phones"])
    assert best["content"] > 0.1


@pytest.mark.slow
def test_a_constant_shares_nothing_between_views(taps):
    assert taps["spectra, judge/constant"]["same"] == 0
    assert taps["spectra, search/log-mel"]["same"] > taps["spectra, search/level"]["same"] > 0
