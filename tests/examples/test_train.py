"""The training program, whole, at a size for tests."""

import math
import os
import re
import subprocess
import sys
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import soundfile
import torch
from hydra import compose, initialize_config_module
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

from lightning_mi import MIBoundCallback
from lightning_mi.examples import quickstart
from lightning_mi.examples.data import EspeakDataModule
from lightning_mi.examples.quickstart import PredictFrames
from lightning_mi.examples.train import main

TINY = [
    "data.utterances=300",
    "data.languages=[en-us,fr-fr]",
    "trainer.enable_progress_bar=false",
    "trainer.accelerator=cpu",
    "trainer.limit_train_batches=4",
]
PROMPTS = [Path("/usr/share/asterisk/sounds") / voice for voice in ("en_US_f_Allison", "fr_CA_f_June")]


def run(folder, *overrides):
    """Run ``examples/train.py`` with these overrides; what it returns."""
    with initialize_config_module("lightning_mi.configs", version_base="1.3"):
        config = compose("train", overrides=[*overrides], return_hydra_config=True)
    with open_dict(config):
        config.hydra.runtime.output_dir = str(folder)
    HydraConfig.instance().set_config(config)
    with open_dict(config):
        del config["hydra"]
    try:
        return main.__wrapped__(config)
    finally:
        HydraConfig.instance().cfg = None


def rows(printed):
    """Rows of the printed table: epoch, step, bound, standard error, whether its checkpoint was chosen."""
    pattern = r"^ *(untrained|\d+) +(\d+) +([\d.]+) ± ([\d.]+)( +<- chosen checkpoint)?$"
    return [(m[1], int(m[2]), float(m[3]), float(m[4]), bool(m[5])) for m in re.finditer(pattern, printed, re.M)]


@pytest.mark.parametrize("model", ["apc", "hubert"])
def test_trains_reports_and_returns_the_objective(tmp_path, capsys, model):
    objective = run(
        tmp_path,
        *TINY,
        f"data.root={tmp_path / 'cache'}",
        f"model={model}",
        "trainer.max_epochs=2",
        "logger=csv",
        "callbacks.mi_bound.num_clusters=8",
    )
    table = rows(capsys.readouterr().out)
    assert [row[0] for row in table] == ["untrained", "0", "1"]
    (best,) = [row for row in table if row[4]]
    assert best[2] == max(row[2] for row in table[1:])
    assert objective == pytest.approx(best[2], abs=6e-4)
    checkpoint = torch.load(tmp_path / f"checkpoints/epoch_{int(best[0]):02d}.ckpt", weights_only=False)
    assert checkpoint["global_step"] == best[1]
    assert (tmp_path / "mi_bound.png").stat().st_size > 10_000
    assert "val/mi_bound" in (tmp_path / "metrics.csv").read_text()


def test_without_the_bound_there_is_no_objective(tmp_path):
    overrides = [*TINY, f"data.root={tmp_path / 'cache'}", "model=apc", "callbacks=none", "logger=none"]
    assert run(tmp_path, *overrides, "trainer.fast_dev_run=true") is None


def test_the_quickstarts_model_has_a_bound_on_its_own_speech(tmp_path):
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        max_epochs=1,
        callbacks=[MIBoundCallback(num_clusters=8, pairs_per_utterance=4)],
    )
    trainer.fit(PredictFrames(), EspeakDataModule(utterances=200, root=tmp_path))
    assert trainer.callback_metrics["mi_bound/pairs"] > 50
    assert trainer.callback_metrics["val/mi_bound"] > 0
    assert len(Path(quickstart.__file__).read_text().splitlines()) < 60


@pytest.mark.slow
@pytest.mark.speech
@pytest.mark.skipif(
    not all(folder.is_dir() for folder in PROMPTS),
    reason="needs recorded speech: apt-get install asterisk-core-sounds-en-wav asterisk-core-sounds-fr-wav",
)
def test_rises_on_recorded_speech(tmp_path, capsys):
    """Prompts in two languages: at least 3 standard errors above the untrained model."""
    overrides = [
        "data=audio_folder",
        f"data.root=[{','.join(map(str, PROMPTS))}]",
        "trainer.enable_progress_bar=false",
        "trainer.accelerator=cpu",
        "trainer.max_epochs=24",  # 12 are enough for about 3 standard errors only
        "logger=none",
    ]
    objective = run(tmp_path, *overrides)
    untrained, *trained = rows(capsys.readouterr().out)
    best = max(trained, key=lambda row: row[2])
    assert objective == pytest.approx(best[2], abs=6e-4)
    assert best[2] - untrained[2] > 3 * math.hypot(best[3], untrained[3])


@pytest.mark.slow
def test_paths_are_from_where_the_program_was_started_though_hydra_moves(tmp_path):
    """With ``hydra.job.chdir=true``: what is read lies there, what is written in the folder of the run; and ``rank``
    from yet another folder finds the speech of the run's config."""
    for name in ("speech", "elsewhere"):
        (tmp_path / name).mkdir()
    for i in range(60):
        samples = np.random.default_rng(i).normal(0, 0.01 + 0.1 * (i % 7), 24000)
        soundfile.write(tmp_path / f"speech/{i}.wav", samples, 16000)
    settings = [
        "model=apc",
        "data=audio_folder",
        "data.root=speech",
        "hydra.job.chdir=true",
        "trainer.accelerator=cpu",
    ]
    settings += [
        "trainer.enable_progress_bar=false",
        "callbacks.mi_bound.num_clusters=4",
        "validate_untrained=false",
    ]
    program = [sys.executable, Path(quickstart.__file__).parent / "train.py", *settings]
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}

    def call(command, folder):
        return subprocess.run(
            [*map(str, command)], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
        )

    first = call([*program, "trainer.max_epochs=1", "hydra.run.dir=runs/a"], tmp_path)
    assert "chosen checkpoint: runs/a/checkpoints/epoch_00.ckpt" in first.stdout, first.stderr
    assert "TensorBoard: tensorboard --logdir runs/a" in first.stdout
    assert (tmp_path / "runs/a/mi_bound.png").is_file()
    resumed = ["trainer.max_epochs=2", "hydra.run.dir=runs/b", "ckpt_path=runs/a/checkpoints/last.ckpt"]
    assert [row[0] for row in rows(call([*program, *resumed], tmp_path).stdout)] == ["0", "1"]
    rank = [
        sys.executable,
        "-c",
        "import sys; from lightning_mi.ranking.cli import main; sys.exit(main())",
        "rank",
    ]
    ranked = call([*rank, "../runs/a/checkpoints", "--config", "../runs/a", "--plot", ""], tmp_path / "elsewhere")
    assert ranked.returncode == 0, ranked.stderr
    assert (tmp_path / "elsewhere/mi_ranking.csv").is_file()
    wrong = call([*program, "data.root=none", "hydra.run.dir=runs/c"], tmp_path)
    assert f"'{tmp_path / 'none'}' is not a folder" in wrong.stderr
