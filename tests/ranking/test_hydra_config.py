import pytest

from lightning_mi.ranking.hydra_config import ConfigError, compose_config, start_folder, with_absolute_paths


def test_composing_leaves_a_hydra_program_alone():
    from hydra import compose, initialize_config_module

    with initialize_config_module("lightning_mi.configs", version_base="1.3"):
        assert compose_config("train", ["seed=3"]).seed == 3
        assert compose("train", overrides=["seed=4"]).seed == 4


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none", "Cannot find primary config 'none'"),
        ("none.yaml", "none.yaml: no such file"),
        (".", "must hold one of train.yaml, config.yaml"),
    ],
)
def test_missing_configs_are_named(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        compose_config(name, [])


@pytest.mark.parametrize("place", ["train.yaml", "config.yaml", ".hydra/train.yaml", ".hydra/config.yaml"])
def test_a_folder_is_the_config_in_it(place, tmp_path):
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    path.write_text("seed: 7\n")
    assert compose_config(str(tmp_path), []).seed == 7
    assert compose_config(str(path), ["seed=8"]).seed == 8


def test_paths_of_a_runs_config_are_from_where_it_was_started_and_those_of_overrides_from_here(
    tmp_path, monkeypatch
):
    started, here = tmp_path / "started", tmp_path / "here"
    hydra_folder = started / "runs/one/.hydra"
    hydra_folder.mkdir(parents=True)
    (hydra_folder / "config.yaml").write_text("data: {root: speech, other: [a, b]}\n")
    (hydra_folder / "hydra.yaml").write_text(f"hydra: {{runtime: {{cwd: {started}}}}}\n")
    (here / "mine").mkdir(parents=True)
    monkeypatch.chdir(here)
    run = "../started/runs/one"
    assert start_folder(run) == start_folder(f"{run}/.hydra/config.yaml") == started
    overrides = ["data.root=mine", "data.other=[mine,none]", "+data.name=other"]
    config = with_absolute_paths(compose_config(run, overrides), overrides)
    assert config.data == {"root": str(here / "mine"), "other": [str(here / "mine"), "none"], "name": "other"}
    assert with_absolute_paths(compose_config(run, []), []).data.root == "speech"
    (hydra_folder / "hydra.yaml").write_text(f"hydra: {{runtime: {{cwd: {tmp_path / 'gone'}}}}}\n")
    assert start_folder(run) == here
