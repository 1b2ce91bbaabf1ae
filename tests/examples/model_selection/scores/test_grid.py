"""Names of the settings are arguments of the callback."""

import inspect
import re

import pytest

pytest.importorskip("torchaudio")

from hydra import compose, initialize_config_module

from lightning_mi import MIBoundCallback
from lightning_mi.examples.model_selection.scores.conditions import (
    FAR,
    MOMENTS,
    SAME,
    VIEW_LATER,
    VIEW_SPEED,
    VIEWS,
)
from lightning_mi.examples.model_selection.scores.grid import (
    CONTENT,
    DEFAULT,
    LAYER_SCORES,
    LOGGED,
    PAPER,
    VOICE,
    Setting,
    settings,
)
from lightning_mi.examples.model_selection.scores.registry import score_names
from lightning_mi.examples.model_selection.scores.segments import SegmentCutter
from lightning_mi.inputs.segments import parse_gaps
from lightning_mi.presets import PRESETS


def test_every_setting_has_a_name_of_its_own():
    every = list(settings())
    assert len({setting.name for setting in every}) == len(set(every)) == len(every)


def test_names_are_arguments_of_the_callback():
    known = inspect.signature(MIBoundCallback.__init__).parameters
    for setting in settings():
        assert set(re.findall(r"(\w+)=", setting.arguments)) <= known.keys()
    assert DEFAULT.name == "mi_bound()"
    assert PAPER.minus_far == "near_minus_far(pooling=mean, quantizer=kmeans, channels=shared)"
    assert CONTENT.name == "mi_bound(gap_seconds=same, pooling=center, speed=1.3)"
    assert Setting(among=VIEWS).name == "mi_bound(pairs with room for views)"
    assert VOICE.name == "mi_bound(segment_seconds=1, pooling=mean)"


def test_what_is_reported_is_scored():
    assert {*LOGGED, *LAYER_SCORES} <= score_names()


@pytest.mark.parametrize(("name", "setting"), [("adjacent", DEFAULT), ("paper", PAPER), ("voice", VOICE)])
def test_settings_of_the_callbacks_presets(name, setting):
    """A preset that is changed is no longer what the study has scored."""
    arguments = dict(re.findall(r"(\w+)=([\w.]+)", setting.arguments))
    changed = {
        key: f"{value:g}" if isinstance(value, float) else value
        for key, value in PRESETS[name]._asdict().items()
        if value != PRESETS["adjacent"]._asdict()[key]
    }
    assert changed == arguments
    with initialize_config_module("lightning_mi.configs", version_base="1.3"):
        config = compose("train", overrides=["callbacks=default"]).callbacks.mi_bound
    assert config.num_clusters == setting.num_clusters


def test_the_preset_of_content():
    preset = PRESETS["content"]
    assert preset.gap_seconds == (CONTENT.partner, FAR)
    assert (preset.speed, preset.segment_seconds) == (VIEW_SPEED, SegmentCutter.segment_seconds)
    assert (preset.pooling, preset.quantizer) == (CONTENT.pooling, CONTENT.quantizer)
    assert preset.channels == "independent"
    assert MOMENTS[SAME] == 0
    near, later = parse_gaps([SAME, VIEW_LATER])
    assert (near.seconds, later.seconds) == (MOMENTS[SAME], MOMENTS[VIEW_LATER])
