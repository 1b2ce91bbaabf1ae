"""Scores are sums of the package's bounds, and reports are scikit-learn's and SciPy's numbers."""

import numpy as np
import pytest
import torch

pytest.importorskip("torchaudio")
pytest.importorskip("sklearn")

from scipy.stats import spearmanr

from lightning_mi import mi_bound
from lightning_mi.examples.public_encoders import speech
from lightning_mi.examples.public_encoders.conditions import CONDITIONS
from lightning_mi.examples.public_encoders.registry import ENCODERS, HALVES, JUDGE, PRETRAINED, SEARCH
from lightning_mi.examples.public_encoders.report import Ranking, Tap, markdown, write_csv
from lightning_mi.examples.public_encoders.scores import CHOSEN, RANKME, Scorer, Setting, settings
from lightning_mi.examples.public_encoders.truths import LANGUAGE, PHONES, VOICES

COUNT, VIEWS = 300, CONDITIONS[0]


@pytest.fixture(scope="module")
def embedded():
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(COUNT, 1, 6, generator=generator)
    noise = torch.tensor([1.0, 0.5, *[1.0] * (len(VIEWS.gaps) - 2), 4.0])[None, :, None]
    segments = common + noise * torch.randn(COUNT, 1 + len(VIEWS.gaps), 6, generator=generator)
    return {VIEWS.name: {"tap/center": segments.half(), "groups": torch.arange(COUNT) // 2}}


def test_a_score_is_the_sum_of_what_bounds_are_above_another(embedded):
    found = embedded[VIEWS.name]
    names = [gap.name for gap in VIEWS.gaps]

    def bound(gap):
        z = found["tap/center"].float()
        return mi_bound(z[:, 0], z[:, 1 + names.index(gap)], 32, found["groups"], quantizer="canonical")

    score = Scorer("tap", embedded, torch.empty(0))
    assert score(Setting(("same",), less="")) == bound("same").bound
    same, later = (bound(gap).bound - bound("far").bound for gap in ("same", "later 80"))
    assert score(Setting(("same",))) == same
    assert score(Setting(("same", "later 80"))) == pytest.approx(same + later)
    assert np.isnan(score(Setting(("near",), less="", condition="adjacent")))


def test_names_of_settings_are_one_each_and_say_what_is_subtracted():
    assert Setting(("same", "later 80")).name == "same + later 80 - 2 far"
    assert Setting(("same",), less="").name == "same"
    known = {each.name: {gap.name for gap in each.gaps} for each in CONDITIONS}
    embedded_in = {each.name: each.halves for each in CONDITIONS}
    for half in HALVES:
        found = settings(half)
        assert len(set(found.values())) == len(found)
        assert all({*each.gains, each.less} - {""} <= known[each.condition] for each in found.values())
        assert all(half in embedded_in[each.condition] for each in found.values())
    assert CHOSEN in settings(JUDGE)
    assert CHOSEN in settings(SEARCH)


def test_no_family_and_no_speaker_is_in_both_halves():
    families = [{each.name.removesuffix(", random") for each in ENCODERS if each.half == half} for half in HALVES]
    assert not families[0] & families[1]
    speakers = [{(each.language, each.name) for each in speech.SPEAKERS if each.half == half} for half in HALVES]
    assert not speakers[0] & speakers[1]
    assert len({each.name if each.name == "Allison" else each.id for each in speech.SPEAKERS}) == 20
    assert len({each.name for each in ENCODERS}) == len(ENCODERS)


def test_what_is_said_in_one_part_is_not_said_in_the_other():
    names = [f"prompt {number}" for number in range(1000)]
    parts = [speech.part_of(name) for name in names]
    assert 400 < parts.count(speech.SCORE) < 600
    assert parts == [speech.part_of(name.upper()) for name in names]


def test_clips_are_joined_until_they_are_five_seconds_long():
    clips = [speech.Clip(str(i), torch.zeros(2 * speech.SAMPLE_RATE), "") for i in range(8)]
    assert speech.joined(clips) == [[0, 1, 2], [3, 4, 5]]


@pytest.fixture(scope="module")
def taps():
    rng = np.random.default_rng(0)
    found = []
    for encoder in range(8):
        for layer in range(4):
            phones = float(rng.uniform(0.1, 0.6))
            accuracies = {
                PHONES: phones,
                VOICES: float(rng.uniform()),
                LANGUAGE: float(rng.uniform()),
                "phones (espeak)": phones,
                "phones (pocketsphinx)": phones,
            }
            scores = {"perfect": phones**3, RANKME: float(rng.uniform()), "reversed": -phones}
            kind = PRETRAINED if encoder % 2 else "random"
            found.append(Tap(f"e{encoder}", f"layer {layer}", f"f{encoder // 2}", kind, accuracies, scores))
    return found


def test_the_report_ranks_as_scipy_does(taps, tmp_path):
    names = list(taps[0].scores)
    ranking = Ranking(taps, names)
    rows = {row[0]: row[1:] for row in ranking.rows(PHONES)}
    expected = spearmanr([t.scores[RANKME] for t in taps], [t.accuracies[PHONES] for t in taps]).statistic
    assert rows[RANKME][0].startswith(f"{expected:+.2f} [")
    assert rows["perfect"][0] == "+1.00 [+1.00, +1.00]"
    assert rows["perfect"][1].startswith(f"{1 - expected:+.2f} [")
    assert rows[RANKME][1] == "+0.00 [+0.00, +0.00]"
    assert rows["reversed"][4] == "-1.00 [-1.00, -1.00]"
    assert rows["perfect"][5] == "0.0"
    worst = max(t.accuracies[PHONES] for t in taps) - min(t.accuracies[PHONES] for t in taps)
    assert rows["reversed"][5] == f"{100 * worst:.1f}"
    head, *inside = ranking.of_encoder(PHONES)
    assert head[1:] == ["e1", "e3", "e5", "e7"]
    assert inside[0] == ["perfect", *["+1.00"] * 4]
    page = markdown(taps, names, "Small")
    assert page.count("| perfect |") == 4
    write_csv(taps, tmp_path / "small.csv")
    assert len((tmp_path / "small.csv").read_text().splitlines()) == 1 + len(taps)
