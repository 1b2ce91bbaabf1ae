"""The callback's numbers and figures in each of Lightning's loggers, without a network."""

import csv
import importlib.util

import pytest
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_mi import MIBoundCallback
from tests.helpers.models import TinySpeechModel, loader, quiet_trainer
from tests.helpers.speech import SAMPLE_RATE, utterances

pytest.importorskip("matplotlib")

DETAILS = ("stderr", "entropy", "cross_entropy", "ceiling", "active_clusters", "pairs", "skipped", "seconds")
NAMES = {"val/mi_bound", *(f"mi_bound/{name}" for name in DETAILS)}
FIGURES = {"mi_bound/curve", "mi_bound/clusters"}


def fit(logger, tmp_path):
    """Fit two epochs and return the callback's bounds."""
    bound = MIBoundCallback(num_clusters=8, sample_rate=SAMPLE_RATE)
    trainer = quiet_trainer(
        logger=logger,
        callbacks=[bound],
        max_epochs=2,
        default_root_dir=tmp_path,
        log_every_n_steps=1,
    )
    x = utterances(96)
    trainer.fit(TinySpeechModel(), loader(x), loader(x))
    logger.finalize("success")
    return [validation.primary.bound for validation in bound.history]


def installed(name):
    return pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"needs {name}: pip install {name}")


def test_tensorboard_has_the_scalars_and_images(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    bounds = fit(logger, tmp_path)
    events = EventAccumulator(logger.log_dir)
    events.Reload()
    assert set(events.Tags()["scalars"]) >= NAMES | {"mi_bound/gain"}
    scalars = events.Scalars("val/mi_bound")
    assert [event.value for event in scalars] == pytest.approx(bounds, abs=1e-4)
    assert set(events.Tags()["images"]) == FIGURES
    images = events.Images("mi_bound/curve")
    assert len(images) == 2
    assert images[0].encoded_image_string != images[1].encoded_image_string
    assert "custom_scalars__config__" not in events.Tags()["tensors"]  # a layout of the user's own stays


def test_csv_has_the_columns_and_files_beside_it(tmp_path):
    logger = CSVLogger(tmp_path)
    bounds = fit(logger, tmp_path)
    with open(f"{logger.log_dir}/metrics.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["val/mi_bound"]]
    assert [float(row["val/mi_bound"]) for row in rows] == pytest.approx(bounds, abs=1e-4)
    assert set(rows[0]) >= NAMES
    assert all(rows[0][name] for name in NAMES)
    found = {path.relative_to(logger.log_dir).with_suffix("").as_posix() for path in tmp_path.rglob("*.png")}
    assert found == FIGURES


@installed("wandb")
def test_wandb_has_the_charts_and_media(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = WandbLogger(project="test", save_dir=tmp_path, offline=True)
    logged = []
    run = logger.experiment
    log = run.log
    monkeypatch.setattr(
        run, "log", lambda data, *args, **kwargs: (logged.append(data), log(data, *args, **kwargs))
    )
    bounds = fit(logger, tmp_path)
    run.finish()
    with_bound = [each for each in logged if "val/mi_bound" in each]
    assert [each["val/mi_bound"] for each in with_bound] == pytest.approx(bounds, abs=1e-4)
    assert set(with_bound[0]) >= NAMES
    with_figure = [each for each in logged if "mi_bound/curve" in each]
    assert len(with_figure) == 2
    assert {each["trainer/global_step"] for each in with_figure} == {3, 6}
    files = list(tmp_path.rglob("media/images/mi_bound/*.png"))
    assert {path.name.split("_")[0] for path in files} == {"curve", "clusters"}
    assert len(files) == 4
    assert not list(tmp_path.rglob("mi_bound/curve.png"))  # not beside the logs as well


@installed("mlflow")
def test_mlflow_has_the_metrics_and_artifacts(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    logger = MLFlowLogger(save_dir=str(tmp_path / "mlruns"))
    bounds = fit(logger, tmp_path)
    client, run_id = logger.experiment, logger.run_id
    metrics = client.get_run(run_id).data.metrics
    assert set(metrics) >= NAMES
    history = client.get_metric_history(run_id, "val/mi_bound")
    assert [each.value for each in history] == pytest.approx(bounds, abs=1e-4)
    found = {each.path for each in client.list_artifacts(run_id, "mi_bound")}
    assert found == {f"{name}.png" for name in FIGURES}
    (curve,) = tmp_path.rglob("curve.png")
    assert Image.open(curve).size[0] > 500
