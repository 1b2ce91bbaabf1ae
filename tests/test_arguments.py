"""Arguments are checked once, and ``None`` is resolved."""

import dataclasses
import enum
import inspect
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_mi import MIBoundCallback
from lightning_mi.arguments import Arguments
from lightning_mi.presets import PRESETS, Preset


@pytest.mark.parametrize("name", [*PRESETS, None])
def test_presets_fill_what_is_left_open_and_nothing_else(name):
    preset = PRESETS[name or "adjacent"]
    resolved = Arguments(name)
    assert resolved.preset == (name or "adjacent")
    for key, value in preset._asdict().items():
        assert getattr(resolved, key) == (list(value) if isinstance(value, tuple) else value)
    given = Preset(0.7, 0.25, 1.1, "shared", "mean", "whitened")
    overridden = Arguments(name, **given._asdict())
    assert {key: getattr(overridden, key) for key in given._fields} == given._asdict()


def test_feature_sequences_have_the_papers_preset_and_no_other():
    for time_dim in (1, -1):
        assert Arguments(time_dim=time_dim) == Arguments("paper", time_dim=time_dim)
    for name in ("adjacent", "content", "voice"):
        with pytest.raises(ValueError, match=f"`preset='{name}'` changes waveforms.*Take `preset='paper'`"):
            Arguments(name, time_dim=1)


def test_record_and_signature_have_the_same_arguments_and_defaults():
    fields = {field.name: field.default for field in dataclasses.fields(Arguments)}
    signature = inspect.signature(MIBoundCallback).parameters
    assert list(fields) == list(signature)
    assert fields == {name: parameter.default for name, parameter in signature.items()}


def test_plain_values_reach_what_speaks_of_them_too():
    class Name(enum.Enum):
        LOGGED = "val/other"

    one = MIBoundCallback(log_name=Name.LOGGED)
    assert one.arguments.log_name == one._figures.log_name == "val/other"
    assert one.state_key == "MIBoundCallback{'log_name': 'val/other'}"


def test_every_argument_reaches_the_record():
    def function(batch):
        return batch

    given = {
        "preset": "paper",
        "num_clusters": 7,
        "max_pairs": 77,
        "segment_seconds": 0.25,
        "gap_seconds": ["near", 0.5],
        "sample_rate": 8000,
        "layers": ["a", "b"],
        "pooling": "mean",
        "embed": "encoder",
        "every_n_epochs": 2,
        "seed": 3,
        "log_name": "other/name",
        "batch_to_waveforms": function,
        "pairs_per_utterance": 5,
        "quantizer": "whitened",
        "probe": "fourier",
        "primary_layer": "a",
        "labels": {"speaker": 1},
        "input_baseline": False,
        "null_control": False,
        "plot_every_n_epochs": 0,
        "time_dim": 2,
        "channels": "shared",
        "speed": 1.0,
        "bound": "contrastive",
    }
    arguments = MIBoundCallback(**given).arguments
    assert {name: getattr(arguments, name) for name in given} == given
    assert set(given) == {field.name for field in dataclasses.fields(Arguments)}


def test_settings_are_plain_and_leave_out_what_does_not_decide_the_number():
    arguments = Arguments(layers=("a", "b"), embed=lambda x: x, gap_seconds=("near", 0.5))
    settings = arguments.settings()
    assert settings["layers"] == ["a", "b"]
    assert settings["embed"] == "a callable"
    assert settings["gap_seconds"] == ["near", 0.5]
    assert not {"log_name", "every_n_epochs", "plot_every_n_epochs", "null_control"} & set(settings)
    assert (
        settings
        == MIBoundCallback(layers=["a", "b"], embed=abs, gap_seconds=["near", 0.5]).state_dict()["settings"]
    )


class Quantizer(str, enum.Enum):
    KMEANS = "kmeans"


def test_scalars_enums_and_paths_become_plain_values(tmp_path):
    """As a sweep over numpy's numbers passes them; else the run's checkpoint cannot be read weights-only."""
    arguments = Arguments(
        num_clusters=np.int64(8),
        segment_seconds=np.linspace(0.25, 0.5, 2)[1],
        gap_seconds=[np.float32(0.25), "far"],
        sample_rate=torch.tensor(8000),
        seed=np.uint8(3),
        embed=Path("encoder"),
        quantizer=Quantizer.KMEANS,
        input_baseline=np.bool_(False),
    )
    assert arguments.settings() | {"num_clusters": 8} == arguments.settings()
    for value in (*arguments.settings().values(), *arguments.gap_seconds, arguments.input_baseline):
        assert value is None or type(value) in (int, float, str, bool, list)
    torch.save(arguments.settings(), tmp_path / "x.pt")
    assert torch.load(tmp_path / "x.pt", weights_only=True) == arguments.settings()


def test_record_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Arguments().seed = 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"preset": 64}, TypeError, "`preset` must be the name of a preset, got 64. Write `num_clusters=64`"),
        (
            {"preset": "phones"},
            ValueError,
            "`preset` must be one of 'adjacent', 'content', 'voice', 'paper', got 'ph",
        ),
        ({"speed": 0.8}, ValueError, "`speed` must be at least 1 .*got 0.8"),
        ({"speed": "fast"}, TypeError, "`speed` must be a"),
        ({"speed": 1.2, "time_dim": 1}, ValueError, "`speed=1.2` plays waveforms, got feature sequences"),
        ({"gap_seconds": "same", "time_dim": 1}, ValueError, "compares two views of one moment, which are equal"),
        ({"gap_seconds": ["near", "same"], "channels": "shared"}, ValueError, "which are equal with `speed=1`"),
        ({"pooling": "last"}, ValueError, "`pooling` must be one of 'mean', 'boundary', 'center', got 'last'"),
        ({"quantizer": "wavelet"}, ValueError, "`quantizer` must be one of"),
        ({"channels": "stereo"}, ValueError, "`channels` must be one of 'shared', 'independent', got 'stereo'"),
        ({"channels": "independent", "time_dim": 1}, ValueError, "changes waveforms, got feature sequences"),
        ({"probe": "cubic"}, ValueError, "`probe` must be one of 'linear', 'quadratic', 'fourier', got 'cubic'"),
        ({"num_clusters": 0}, ValueError, "`num_clusters` must be at least 1, got 0"),
        ({"max_pairs": 1.5}, TypeError, "`max_pairs` must be an int, got 1.5"),
        ({"plot_every_n_epochs": -1}, ValueError, "`plot_every_n_epochs` must not be negative, got -1"),
        ({"segment_seconds": "1"}, TypeError, "`segment_seconds` must be a number of seconds, got '1'"),
        ({"segment_seconds": 1e-6}, ValueError, "at least one sample at `sample_rate=16000`, got 1e-06"),
        ({"sample_rate": -1}, ValueError, "`sample_rate` must be a positive number"),
        ({"primary_layer": 3}, TypeError, "`primary_layer` must be the name of a layer or 'best', got 3"),
        ({"batch_to_waveforms": "x"}, TypeError, "`batch_to_waveforms` must be callable, got 'x'"),
        ({"log_name": "/"}, ValueError, "`log_name` must be the name of a metric, got '/'"),
        ({"gap_seconds": "close"}, ValueError, "`gap_seconds` must be a number"),
        ({"labels": 0.5}, TypeError, "must be a key, an index or a function"),
        ({"labels": {"a/layers/b": 1}}, ValueError, "logged names would collide"),
        ({"time_dim": 0}, ValueError, "`time_dim` must be 1 for feature sequences"),
    ],
)
def test_errors_name_the_argument_and_what_came(arguments, error, message):
    with pytest.raises(error, match=message):
        MIBoundCallback(**arguments)
