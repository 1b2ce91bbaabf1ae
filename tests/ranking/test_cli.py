import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_mi.ranking.cli import main
from lightning_mi.ranking.hydra_config import compose_config

OVERRIDES = [
    "data.utterances=300",
    "data.languages=[en-us,fr-fr]",
    "trainer.accelerator=cpu",
    "data.val_fraction=0.5",
]
BOUND = ["callbacks.mi_bound.num_clusters=8"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with checkpoints of the demo's model, untrained and trained a little, and the overrides used."""
    from hydra.utils import instantiate

    folder = tmp_path_factory.mktemp("demo")
    overrides = [*OVERRIDES, f"data.root={folder / 'cache'}"]
    config = compose_config("train", [*overrides, "trainer.max_epochs=8", "trainer.check_val_every_n_epoch=8"])
    pl.seed_everything(config.seed, verbose=False)
    data, model = instantiate(config.data), instantiate(config.model)
    saving = ModelCheckpoint(
        folder / "ckpt", "{epoch}-{step}", save_top_k=-1, every_n_epochs=4, save_on_train_epoch_end=True
    )
    trainer = instantiate(
        config.trainer, callbacks=[saving], logger=False, enable_progress_bar=False, num_sanity_val_steps=0
    )
    trainer.validate(model, data, verbose=False)
    trainer.save_checkpoint(folder / "ckpt/at_first.ckpt")
    trainer.fit(model, data)
    (folder / "ckpt/junk.ckpt").write_text("junk")
    return folder, overrides


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_the_checkpoints_of_the_demo_are_ranked(trained, tmp_path, monkeypatch, capsys):
    folder, overrides = trained
    monkeypatch.chdir(tmp_path)
    status = main(["rank", str(folder / "ckpt"), "gone.ckpt", "--untrained", *overrides, *BOUND])
    printed = capsys.readouterr().out
    assert status == 0
    rows = rows_of("mi_ranking.csv")
    names = [row["name"].rsplit("/", 1)[-1] for row in rows]
    assert {*names[:2]} == {"epoch=3-step=16.ckpt", "epoch=7-step=32.ckpt"}
    assert {*names[2:]} == {"at_first.ckpt", "untrained"}
    assert rows[2]["bound"] == rows[3]["bound"]
    assert float(rows[2]["delta_to_best"]) > 2 * float(rows[2]["delta_to_best_stderr"])
    assert f"left out: {folder / 'ckpt/junk.ckpt'}: not a checkpoint" in printed
    assert "left out: gone.ckpt: no such file" in printed
    assert "mi_ranking.png" in printed
    assert (tmp_path / "mi_ranking.png").stat().st_size > 10_000


def test_a_config_of_the_user_gives_the_same_bounds(trained, tmp_path, monkeypatch):
    """A YAML file with our groups, and the folder of a run with the config that Hydra kept."""
    from omegaconf import OmegaConf

    folder, overrides = trained
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(
        "defaults:\n  - data: espeak\n  - model: hubert\n  - callbacks: mi_bound\n  - trainer: default\n  - _self_\nseed: 0\n"
    )
    hydra_folder = tmp_path / "run" / ".hydra"
    hydra_folder.mkdir(parents=True)
    OmegaConf.save(compose_config("train", [*overrides, *BOUND]), hydra_folder / "config.yaml")
    checkpoint = str(folder / "ckpt/epoch=7-step=32.ckpt")
    bounds = []
    for config, more in (("mine.yaml", [*overrides, *BOUND]), ("run", []), ("train", [*overrides, *BOUND])):
        assert main(["rank", checkpoint, "--config", config, "--csv", "out.csv", "--plot", "", *more]) == 0
        bounds.append([row["bound"] for row in rows_of("out.csv")])
    assert bounds[0] == bounds[1] == bounds[2]
    assert not (tmp_path / "mi_ranking.png").exists()


def test_checkpoints_of_another_model_exit_with_1(trained, tmp_path, monkeypatch, capsys):
    folder, overrides = trained
    monkeypatch.chdir(tmp_path)
    checkpoint = str(folder / "ckpt/at_first.ckpt")
    assert main(["rank", checkpoint, "model=apc", *overrides]) == 1
    said = capsys.readouterr()
    assert "do not fit APCModule" in said.out
    assert "model=..." in said.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--config", "none"], "Cannot find primary config 'none'"),
        (["--config", "none.yaml"], "none.yaml: no such file"),
        (["--config", "."], "must hold one of train.yaml, config.yaml"),
        (["model=hubrt"], "Could not find 'model/hubrt'"),
        (["callbacks.mi_bound.num_cluster=3"], "num_cluster"),
        (["callbacks=none"], "add callbacks=mi_bound"),
        (["data=audio_folder"], "data.root"),
        (["callbacks.mi_bound.num_clusters=-1"], "num_clusters"),
        (["~model"], "must have the key `model`"),
        (["seed=abc"], "`seed` must be an integer, got 'abc'"),
        (["--plot", "y.xyz"], "--plot y.xyz: '.xyz' is no format"),
        (["--config", "broken.yaml"], "--config broken.yaml: while parsing"),
        (["--config", "binary.yaml"], "--config binary.yaml: 'utf-8' codec can't decode"),
    ],
)
def test_wrong_configs_exit_with_2_and_the_reason(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.save({}, "x.pt")
    Path("broken.yaml").write_text("a: [1\nb: }")
    Path("binary.yaml").write_bytes(b"\xfe\xff\x00")
    assert main(["rank", "x.pt", "--untrained", *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["rank"], ["rank", "model=apc"], ["rank", "x.ckpt", "--confg=train"], []])
def test_wrong_arguments_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    assert "lightning-mi" in capsys.readouterr().err


def test_help_names_the_unit_the_options_and_the_overrides(capsys):
    with pytest.raises(SystemExit) as raised:
        main(["rank", "--help"])
    assert raised.value.code == 0
    said = capsys.readouterr().out
    for part in ("nats", "--untrained", "data=audio_folder", "exit status", "callbacks.mi_bound.num_clusters=64"):
        assert part in said


def test_a_missing_hydra_exits_with_2_and_the_remedy(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "hydra", None)
    assert main(["rank", "x.ckpt"]) == 2
    assert "pip install 'lightning-mi[hydra]'" in capsys.readouterr().err


def test_a_missing_matplotlib_exits_with_2_if_a_plot_is_asked_for(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["rank", "x.ckpt", "--plot", "x.png"]) == 2
    assert "pip install 'lightning-mi[plot]'" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--csv", "--plot"])
def test_a_file_that_cannot_be_written_exits_with_2_before_anything_is_read(option, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    for path, why in (("none-here/x.png", "No such file"), ("folder", "Is a directory")):
        assert main(["rank", "x.ckpt", "data.root=none-here", "data=audio_folder", option, path]) == 2
        said = capsys.readouterr().err
        assert f"{option}: {tmp_path / path} cannot be written: {why}" in said
        assert "Traceback" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv, to give up root's rights")
def test_a_folder_that_is_read_only_exits_with_2(tmp_path):
    tmp_path.chmod(0o555)
    drop = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"] if os.geteuid() == 0 else []
    code = "import sys; from lightning_mi.ranking.cli import main; sys.exit(main(['rank', 'x.ckpt']))"
    env = os.environ | {"PYTHONPATH": str(Path.cwd())}
    run = subprocess.run(
        [*drop, sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 2
    assert "--csv: " in run.stderr
    assert "mi_ranking.csv cannot be written: Permission denied" in run.stderr
