"""Configs, programs and made-up results of examples/model_selection."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig

from lightning_mi.examples import model_selection
from lightning_mi.examples.model_selection.analysis.table import LOSS, Results, Scored
from lightning_mi.examples.model_selection.corpora.channel import Channel

FOLDER = Path(model_selection.__file__).parent
NO_CHANNEL = Channel(gain_db=(0.0, 0.0), tilt_db=(0.0, 0.0), snr_db=(200.0, 200.0))


def composed(*overrides):
    with initialize_config_dir(str(FOLDER / "configs"), version_base="1.3"):
        return compose("model_selection", overrides=list(overrides))


def makes_folders(config):
    """What to do with each item, for other processes too."""
    return Path.mkdir


def run_program(name, config):
    """The ``main`` of train.py, score.py, ..., without Hydra's command line."""
    spec = importlib.util.spec_from_file_location(f"{model_selection.__name__}.{name}", FOLDER / f"{name}.py")
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    try:
        return program.main.__wrapped__(config)
    finally:
        HydraConfig.instance().cfg = None


def noise_results(
    seed=0, names=("mi_bound()", "RankMe(frames)", "RankMe(means)", LOSS), tasks=("phone", "speaker")
):
    """20 checkpoints of 5 runs; all scores are noise."""
    rng = np.random.default_rng(seed)
    rows = [
        Scored(f"run_{run}", step, "apc", "noise" if run == 4 else "") for run in range(5) for step in range(4)
    ]
    return Results(
        checkpoints=rows,
        left_out=[],
        names=list(names),
        scores=rng.normal(size=(20, len(names))),
        accuracy={name: rng.uniform(size=20) for name in tasks},
        labelled={name: rng.uniform(size=20) for name in tasks},
    )


def with_score(made, name, values):
    scores = made.scores.copy()
    scores[:, made.names.index(name)] = values
    return replace(made, scores=scores)
