"""The configs compose, build what they name, and list the callback's own defaults."""

import inspect
import subprocess
import sys
from importlib import resources
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.errors import ConfigCompositionException
from hydra.utils import get_class, instantiate

from lightning_mi import MIBoundCallback
from lightning_mi.presets import PRESETS
from tests.helpers.models import TinySpeechModel, loader, quiet_trainer
from tests.helpers.speech import utterances

CONFIGS = Path(str(resources.files("lightning_mi.configs")))
GROUPS = ("callbacks", "data", "model", "trainer", "logger", "experiment")
CHOICES = [(group, path.stem) for group in GROUPS for path in sorted((CONFIGS / group).glob("*.yaml"))]


def composed(*overrides):
    with initialize_config_module("lightning_mi.configs", version_base="1.3"):
        return compose("train", overrides=list(overrides))


def test_every_group_has_choices():
    assert {group for group, _ in CHOICES} == set(GROUPS)
    assert {"espeak", "audio_folder", "librispeech"} <= {name for group, name in CHOICES if group == "data"}
    assert {"hubert", "hubert_base", "apc", "cpc"} <= {name for group, name in CHOICES if group == "model"}


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_every_choice_composes_and_names_real_arguments(group, name):
    config = composed(f"{group}={name}" if group != "experiment" else f"experiment={name}")
    nodes = [config.data, config.model, config.trainer, *(config.callbacks or {}).values()]
    for node in [*nodes, config.logger] if config.logger else nodes:
        target = get_class(node._target_)
        accepted = inspect.signature(target.__init__).parameters
        named = {key for key in node if not key.startswith("_")}
        assert any(p.kind == p.VAR_KEYWORD for p in accepted.values()) or named <= accepted.keys(), node._target_


def test_the_callbacks_config_lists_every_argument_and_its_default():
    config = composed("callbacks=mi_bound").callbacks.mi_bound
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(MIBoundCallback.__init__).parameters.items()
        if name != "self"
    }
    assert set(config) - {"_target_"} == defaults.keys()
    differing = {name for name in defaults if config[name] != defaults[name]}
    assert differing == {"num_clusters"}  # for the example's speech; the file says why


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_the_word_of_a_preset_is_that_of_its_config(name):
    config = composed("callbacks=default" if name == "adjacent" else f"callbacks={name}").callbacks
    plain = composed("callbacks=default").callbacks
    assert set(config) == set(plain)
    differing = {key: value for key, value in config.mi_bound.items() if value != plain.mi_bound[key]}
    assert differing == ({} if name == "adjacent" else {"preset": name})
    arguments = instantiate(config.mi_bound).arguments
    for key, value in PRESETS[name]._asdict().items():
        assert getattr(arguments, key) == (list(value) if isinstance(value, tuple) else value)
    monitor = "mi_bound/content" if name == "content" else "val/mi_bound"
    assert config.early_stopping.monitor == config.model_checkpoint.monitor == monitor


def test_overrides_reach_the_callback():
    config = composed(
        "callbacks.mi_bound.num_clusters=256",
        "callbacks.mi_bound.gap_seconds=[near,far,0.3]",
        "callbacks.mi_bound.layers=[a,b.*]",
    )
    callback = instantiate(config.callbacks.mi_bound)
    assert callback.arguments.num_clusters == 256
    assert [gap.name for gap in callback.sampler.gaps] == ["near", "far", "0.3"]
    assert list(callback.arguments.layers) == ["a", "b.*"]


def test_unknown_names_are_errors():
    with pytest.raises(ConfigCompositionException, match="num_cluster"):
        composed("callbacks.mi_bound.num_cluster=3")
    with pytest.raises(Exception, match="Could not find 'model/hubrt'"):
        composed("model=hubrt")


@pytest.mark.parametrize("model", ["hubert", "apc", "cpc"])
def test_models_build(model):
    assert sum(p.numel() for p in instantiate(composed(f"model={model}").model).parameters()) > 10_000


PROGRAM = """
import hydra
from hydra.utils import instantiate
@hydra.main(version_base="1.3", config_path=".", config_name="mine")
def main(config):
    import lightning_mi
    print(lightning_mi.__file__)
    for group in ("data", "model"):
        print(hydra.utils.get_class(config[group]._target_).__name__)
    print(instantiate(config.callbacks)["mi_bound"].arguments.num_clusters)
main()
"""
MINE = """
hydra:
  searchpath: [pkg://lightning_mi.configs]
  run: {dir: .}
  output_subdir: null
defaults:
  - callbacks: default
  - data: espeak
  - model: apc
  - _self_
seed: 1
callbacks:
  mi_bound:
    num_clusters: 99
"""


@pytest.mark.slow
def test_another_program_composes_the_wheels_configs(tmp_path):
    """The built wheel, on its own in an empty folder: no checkout, no editable install."""
    root = CONFIGS.parent
    assert (root / "pyproject.toml").exists()
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "-w", str(tmp_path), str(root)], check=True, timeout=300)
    (wheel,) = tmp_path.glob("lightning_mi-*.whl")
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site)]
    subprocess.run([*install, str(wheel)], check=True, timeout=300)
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "program.py").write_text(PROGRAM)
    (empty / "mine.yaml").write_text(MINE)
    run = subprocess.run(
        [sys.executable, "program.py"],
        cwd=empty,
        env={"PYTHONPATH": str(site), "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    where, data, model, clusters = run.stdout.strip().splitlines()
    assert where.startswith(str(site))
    assert (data, model, clusters) == ("EspeakDataModule", "APCModule", "99")
    assert (site / "lightning_mi/py.typed").exists()
    # The study stays in the repository.
    assert not list(site.rglob("*model_selection*"))
    assert not list((site / "lightning_mi/configs").glob("zoo*"))


def test_sampling_rate_of_the_data_is_that_of_the_bound_and_of_the_model():
    config = composed("data=audio_folder", "data.root=speech", "data.sample_rate=8000", "model=apc")
    assert config.callbacks.mi_bound.sample_rate == config.model.sample_rate == 8000
    assert instantiate(config.callbacks.mi_bound).arguments.sample_rate == 8000
    with initialize_config_module("lightning_mi.configs", version_base="1.3"):
        alone = compose("callbacks/mi_bound")  # in a program whose data is not ours
    assert instantiate(alone.callbacks.mi_bound).arguments.sample_rate == 16000


def test_last_checkpoint_is_the_last_epoch_and_the_other_the_best(tmp_path):
    """With Lightning 2.6 ``save_last`` beside ``save_top_k=1`` is a copy of the best, and a resume goes back."""

    class Falling(pl.Callback):
        """A bound that is highest in the second epoch."""

        def on_validation_epoch_end(self, trainer, pl_module):
            pl_module.log("val/mi_bound", [0.3, 0.9, 0.5, 0.4][trainer.current_epoch])

    callbacks = composed().callbacks
    made = [
        instantiate(callbacks[name], dirpath=str(tmp_path)) for name in ("model_checkpoint", "last_checkpoint")
    ]
    trainer = quiet_trainer(
        callbacks=[Falling(), *made], max_epochs=4, enable_checkpointing=True, num_sanity_val_steps=0
    )
    trainer.fit(TinySpeechModel(), loader(utterances(32)), loader(utterances(32)))
    found = {path.name: torch.load(path, weights_only=False)["epoch"] for path in tmp_path.glob("*.ckpt")}
    assert found == {"epoch_01.ckpt": 1, "last.ckpt": 3}
