import builtins
import gc
import random
import types
import warnings

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_mi import MIBoundCallback
from lightning_mi.reporting.history import History
from lightning_mi.reporting.loggers import FigureLogger
from tests.helpers.histories import history
from tests.helpers.models import TinySpeechModel, loader, quiet_trainer
from tests.helpers.speech import SAMPLE_RATE, utterances

pytest.importorskip("matplotlib")

from lightning_mi.reporting import plots


class ImageLogger:
    """A logger that keeps its images, with the method of WandbLogger."""

    save_dir = None

    def __init__(self):
        self.got = []

    def log_image(self, key, images, step=None):
        self.got.append((key, images, step))


class FailingLogger(ImageLogger):
    def log_image(self, key, images, step=None):
        raise OSError("no space left")


def trainer_with(*loggers, **kwargs):
    trainer = quiet_trainer(**kwargs)
    trainer.loggers = list(loggers)
    return trainer


def warned(*calls):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for call in calls:
            call()
    return [str(each.message) for each in caught if "figures" in str(each.message)]


def test_every_figure_reaches_every_logger_with_the_step_of_the_last_validation():
    first, second, made = ImageLogger(), ImageLogger(), history(3, 2)
    FigureLogger().log_figures(trainer_with(first, second), made)
    assert [(key, step) for key, _, step in first.got] == [
        ("mi_bound/curve", 300),
        ("mi_bound/clusters", 300),
        ("mi_bound/layer_map", 300),
    ]
    (image,) = first.got[0][1]
    assert (image == plots.render(plots.bound_curve(made))).all()
    (image,) = first.got[2][1]
    assert (image == plots.render(plots.layer_map(made))).all()
    assert [key for key, _, _ in second.got] == [key for key, _, _ in first.got]


def test_the_map_needs_several_layers_and_keeps_their_order():
    logger, made = ImageLogger(), history(3, 2)
    FigureLogger("val/other").log_figures(trainer_with(logger), history(3, 1))
    assert [key for key, _, _ in logger.got] == ["other/curve", "other/clusters"]
    order = ["model.layers.1", "model.layers.0"]
    FigureLogger().log_figures(trainer_with(logger), made, layers=order)
    assert (logger.got[-1][1][0] == plots.render(plots.layer_map(made, order))).all()


def test_figures_are_files_beside_the_logs_if_no_logger_takes_images(tmp_path):
    trainer = trainer_with(CSVLogger(tmp_path, name="run", version=0))
    FigureLogger().log_figures(trainer, history(2))
    FigureLogger().log_figures(trainer, history(5))
    folder = tmp_path / "run" / "version_0" / "mi_bound"
    assert sorted(path.name for path in folder.iterdir()) == ["clusters.png", "curve.png"]
    assert (np.asarray(Image.open(folder / "curve.png")) == plots.render(plots.bound_curve(history(5)))).all()


def test_the_trainers_folder_is_used_if_the_logger_has_none(tmp_path):
    FigureLogger().log_figures(
        trainer_with(types.SimpleNamespace(save_dir=None), default_root_dir=tmp_path), history(1)
    )
    assert (tmp_path / "mi_bound" / "curve.png").exists()


def test_tensorboard_receives_every_figure_at_its_step(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    FigureLogger().log_figures(trainer_with(logger), history(4, 3))
    logger.finalize("success")
    events = EventAccumulator(logger.log_dir)
    events.Reload()
    assert sorted(events.Tags()["images"]) == ["mi_bound/clusters", "mi_bound/curve", "mi_bound/layer_map"]
    (event,) = events.Images("mi_bound/curve")
    assert event.step == 400
    assert (event.height, event.width) == plots.render(plots.bound_curve(history(4, 3))).shape[:2]


@pytest.mark.parametrize("reason", ["no logger", "fast_dev_run", "other rank", "empty"])
def test_nothing_is_drawn_without_loggers_or_history_or_off_rank_zero(reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    logger = ImageLogger()
    trainer = trainer_with(*([] if reason == "no logger" else [logger]), fast_dev_run=reason == "fast_dev_run")
    if reason == "other rank":
        trainer.strategy.global_rank = 1
        monkeypatch.setattr(type(trainer), "is_global_zero", False)
    FigureLogger().log_figures(trainer, History() if reason == "empty" else history(1))
    assert logger.got == []
    assert list(tmp_path.iterdir()) == []


def test_a_failing_logger_warns_once_and_the_others_are_served():
    figures, good = FigureLogger(), ImageLogger()
    trainer = trainer_with(FailingLogger(), good)
    found = warned(*[lambda: figures.log_figures(trainer, history(1))] * 3)
    assert found == ["The figures of 'val/mi_bound' are missing, all numbers are logged: OSError: no space left"]
    assert len(good.got) == 6


def test_a_failing_figure_warns_once(monkeypatch):
    def fails(history):
        raise RuntimeError("no font")

    monkeypatch.setattr(plots, "bound_curve", fails)
    figures = FigureLogger()
    found = warned(*[lambda: figures.log_figures(trainer_with(ImageLogger()), history(1))] * 2)
    assert found == ["The figures of 'val/mi_bound' are missing, all numbers are logged: RuntimeError: no font"]


def test_a_missing_matplotlib_warns_once_with_the_command_to_install_it(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.split(".")[0] == "matplotlib":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    figures = FigureLogger()
    (found,) = warned(*[lambda: figures.log_figures(trainer_with(ImageLogger()), history(1))] * 2)
    assert "pip install 'lightning-mi[plot]'" in found


def test_logging_figures_leaves_random_generators_alone():
    def states():
        return torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002

    before = states()
    FigureLogger().log_figures(trainer_with(ImageLogger()), history(3, 3))
    after = states()
    assert torch.equal(before[0], after[0])
    assert (before[1] == after[1]).all()
    assert before[2] == after[2]


def test_figures_are_freed_after_logging():
    import matplotlib.figure
    import matplotlib.pyplot

    def alive():
        gc.collect()
        return sum(isinstance(each, matplotlib.figure.Figure) for each in gc.get_objects())

    before = alive()
    figures = FigureLogger()
    for _ in range(3):
        figures.log_figures(trainer_with(ImageLogger()), history(2, 2))
    assert alive() == before
    assert matplotlib.pyplot.get_fignums() == []


# ---- the value before training


@pytest.mark.parametrize("case", ["same", "other module", "other utterances", "nothing before"])
def test_figures_begin_with_the_validation_before_the_fit(case):
    one = MIBoundCallback(num_clusters=8, sample_rate=SAMPLE_RATE)
    trainer = quiet_trainer(callbacks=[one], max_epochs=2)
    module, x = TinySpeechModel(), utterances(96)
    if case != "nothing before":
        before = utterances(96, seed=1) if case == "other utterances" else x
        trainer.validate(module, loader(before), verbose=False)
        untrained = trainer.callback_metrics["val/mi_bound"].item()
    trainer.fit(TinySpeechModel() if case == "other module" else module, loader(x), loader(x))
    found = [(each.epoch, each.step) for each in one.history]
    assert found == [(-1, 0)] * (case == "same") + [(0, 3), (1, 6)]
    if case == "same":
        assert next(iter(one.history)).primary.bound == pytest.approx(untrained, abs=1e-4)
        again = History.from_state(one.history.state())
        assert [each.epoch for each in again] == [-1, 0, 1]
