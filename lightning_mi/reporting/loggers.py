"""Figures in the Trainer's loggers (TensorBoard, W&B, MLflow, ...), else in files beside the logs."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn

from lightning_mi.reporting.history import History
from lightning_mi.reporting.metric_names import metric_prefix

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Send = Callable[[str, NDArray[np.uint8], int], object]  # tag, (height, width, 3), step


class FigureLogger:
    """Logs figures of a run's history to the Trainer's loggers, on rank zero.

    The figures are ``<prefix>/curve``, ``<prefix>/clusters`` and, if there are several layers,
    ``<prefix>/layer_map``. They go to every logger that takes images: TensorBoardLogger, WandbLogger,
    MLFlowLogger, and others with the same methods. If no logger does, they are written to
    ``<log folder>/<prefix>/<name>.png``, and each validation replaces the files of the one before. Nothing is
    drawn if the Trainer has no loggers or runs with ``fast_dev_run``.

    A failure or a missing matplotlib raises one warning, and the run continues.

    Args:
        log_name: Name under which the primary bound is logged; ``<prefix>`` is its last part.
        has_clusters: Whether there are clusters whose use can be drawn.

    Example:
        >>> import tempfile
        >>> from lightning.pytorch.loggers import CSVLogger
        >>> from lightning_mi import MIEstimate
        >>> history = History()
        >>> history.append(0, 100, {("encoder", "near"): MIEstimate(1.5, 0.1, 4.0, 2.5, 4.85, 128, 120, 900, 900)})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     trainer = Trainer(logger=CSVLogger(folder), accelerator="cpu", enable_progress_bar=False)
        ...     FigureLogger("val/mi_bound").log_figures(trainer, history)
        ...     sorted(path.name for path in Path(folder).rglob("*.png"))
        ['clusters.png', 'curve.png']
    """

    def __init__(self, log_name: str = "val/mi_bound", has_clusters: bool = True) -> None:
        self.log_name = log_name
        self._has_clusters = has_clusters
        self._has_warned = False

    def log_figures(self, trainer: Trainer, history: History, layers: Sequence[str] | None = None) -> None:
        """Draw the history and log the figures. Does nothing if it is empty or if this is not rank zero.

        Args:
            trainer: The Trainer with the loggers.
            history: History of the run. The figures are logged at the step of its last validation.
            layers: Names of the layers in the model's order, see
                :func:`lightning_mi.reporting.plots.layer_map`.
        """
        if not (_can_log_images(trainer) and len(history)):
            return
        try:
            images = self._draw(history, layers)
            senders = [send for logger in trainer.loggers if (send := _sender(logger)) is not None]
            senders = senders or [_file_writer(_folder(trainer))]
        except Exception as error:
            self._warn(error)
            return
        for send in senders:
            try:
                for name, image in images.items():
                    send(f"{metric_prefix(self.log_name)}/{name}", image, history.last.step)
            except Exception as error:  # the other loggers still receive their figures
                self._warn(error)

    def _draw(self, history: History, layers: Sequence[str] | None) -> dict[str, NDArray[np.uint8]]:
        """Pixels by the name of the figure, drawn once for all loggers."""
        from lightning_mi.reporting import plots

        figures = {"curve": plots.bound_curve(history)}
        if self._has_clusters:
            figures["clusters"] = plots.cluster_usage(history)
        if any(len(validation.layers) > 1 for validation in history):
            figures["layer_map"] = plots.layer_map(history, layers)
        return {name: plots.render(figure) for name, figure in figures.items()}

    def _warn(self, error: Exception) -> None:
        if self._has_warned:
            return
        self._has_warned = True
        what = f"The figures of {self.log_name!r} are missing"
        if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] == "matplotlib":
            why = "matplotlib is not installed, run `pip install 'lightning-mi[plot]'`"
        else:
            why = f"{type(error).__name__}: {error}"
        rank_zero_warn(f"{what}, all numbers are logged: {why}")


def _can_log_images(trainer: Trainer) -> bool:
    # With `fast_dev_run`, loggers are dummies that accept any call.
    return bool(trainer.is_global_zero and trainer.loggers and not trainer.fast_dev_run)  # type: ignore[attr-defined]


def _sender(logger: Any) -> Send | None:
    """The function that logs an image to this logger, or ``None`` if it takes none.

    Found by its methods, not its class: ``pytorch_lightning`` and ``lightning`` have different classes, and
    TensorBoard has many writers.
    """
    to_logger = _method(logger, "log_image", "key", "images", "step")  # WandbLogger
    if to_logger is not None:
        return lambda tag, image, step: to_logger(key=tag, images=[image], step=step)
    experiment = getattr(logger, "experiment", None)
    # `add_figure` would use pyplot and draw the figure again.
    to_writer = _method(experiment, "add_image")  # TensorBoardLogger
    if to_writer is not None:
        return lambda tag, image, step: to_writer(tag, image, step, dataformats="HWC")
    to_client = _method(experiment, "log_image", "run_id", "image", "artifact_file")  # MLFlowLogger
    if to_client is not None:
        return lambda tag, image, step: to_client(logger.run_id, image, artifact_file=f"{tag}.png")
    return None


def _method(owner: object, name: str, *parameters: str) -> Callable[..., Any] | None:
    """The method ``name`` of ``owner``, or ``None`` if there is none that takes all ``parameters``."""
    method = getattr(owner, name, None)
    if not callable(method):
        return None
    if parameters and not set(parameters) <= set(inspect.signature(method).parameters):
        return None
    return method


def _folder(trainer: Trainer) -> Path:
    # `trainer.log_dir` would wait for all processes.
    logger: Any = trainer.loggers[0]
    folder = getattr(logger, "log_dir", None) or logger.save_dir or trainer.default_root_dir
    return Path(folder)


def _file_writer(folder: Path) -> Send:
    def write(tag: str, image: NDArray[np.uint8], step: int) -> None:
        from PIL import Image

        path = folder / f"{tag}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        Image.fromarray(image).save(unfinished, format="png")
        os.replace(unfinished, path)  # atomic, so that no reader sees half a file

    return write
