import pytest

from lightning_mi.ranking.hydra_config import ConfigError, compose_config


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
