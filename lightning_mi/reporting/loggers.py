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
    """Draws the history of a run and hands the figures to the Trainer's loggers, on rank zero.

    ``<prefix>/curve``, ``<prefix>/clusters`` and, if there are several layers, ``<prefix>/layer_map`` go to
    every logger that takes images: TensorBoardLogger, WandbLogger, MLFlowLogger, and others with the same methods.
    If none does, they are written as ``<log folder>/<prefix>/<name>.png``, always the newest. A Trainer without
    loggers, or in ``fast_dev_run``, draws nothing.

    A failure, or a missing matplotlib, is one warning, and the run goes on.

    Args:
        log_name: Name of the primary bound; ``prefix`` is its last part.

    Example:
        >>> import tempfile
        >>> from lightning.pytorch.loggers import CSVLogger
        >>> from lightning_mi import MIEstimate
        >>> history = History()
        >>> history.append(0, 100, {("encoder", "near"): MIEstimate(1.5, 0.1, 4.0, 2.5, 4.85, 128, 120, 900, 900)})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     trainer = Trainer(logger=CSVLogger(folder), accelerator="cpu", enable_progress_bar=False)
        ...     FigureLogger("val/mi_bound").log(trainer, history)
        ...     sorted(path.name for path in Path(folder).rglob("*.png"))
        ['clusters.png', 'curve.png']
    """

    def __init__(self, log_name: str = "val/mi_bound") -> None:
        self.log_name = log_name
        self._has_warned = False

    def log(self, trainer: Trainer, history: History, layers: Sequence[str] | None = None) -> None:
        """Draw the history as it is now; nothing if it is empty, or on another process than the first.

        Args:
            trainer: Whose loggers are served.
            history: What is drawn; the step of its last validation is that of the figures.
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
            except Exception as error:  # the other loggers get theirs
                self._warn(error)

    def _draw(self, history: History, layers: Sequence[str] | None) -> dict[str, NDArray[np.uint8]]:
        """Pixels, drawn once for all loggers."""
        from lightning_mi.reporting import plots

        figures = {"curve": plots.bound_curve(history), "clusters": plots.cluster_usage(history)}
        if any(len(validation.layers) > 1 for validation in history):
            figures["layer_map"] = plots.layer_map(history, layers)
        return {name: plots.render(figure) for name, figure in figures.items()}

    def _warn(self, error: Exception) -> None:
        if self._has_warned:
            return
        self._has_warned = True
        what = f"The figures of {self.log_name!r} are missing"
        if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] == "matplotlib":
            rank_zero_warn(f"{what}: they need matplotlib, `pip install matplotlib`. All numbers are logged.")
        else:
            rank_zero_warn(f"{what}, the numbers are not: {type(error).__name__}: {error}")


def _can_log_images(trainer: Trainer) -> bool:
    # In `fast_dev_run` loggers are dummies that take anything.
    return bool(trainer.is_global_zero and trainer.loggers and not trainer.fast_dev_run)  # type: ignore[attr-defined]


def _sender(logger: Any) -> Send | None:
    """How this logger takes an image, or ``None``. By its methods, not its class: those of ``pytorch_lightning``
    and of ``lightning`` differ, and TensorBoard has many writers."""
    to_logger = _method(logger, "log_image", "key", "images", "step")  # WandbLogger
    if to_logger is not None:
        return lambda tag, image, step: to_logger(key=tag, images=[image], step=step)
    experiment = getattr(logger, "experiment", None)
    # Not add_figure, which goes through pyplot and draws once more.
    to_writer = _method(experiment, "add_image")  # TensorBoardLogger
    if to_writer is not None:
        return lambda tag, image, step: to_writer(tag, image, step, dataformats="HWC")
    to_client = _method(experiment, "log_image", "run_id", "image", "artifact_file")  # MLFlowLogger
    if to_client is not None:
        return lambda tag, image, step: to_client(logger.run_id, image, artifact_file=f"{tag}.png")
    return None


def _method(owner: object, name: str, *parameters: str) -> Callable[..., Any] | None:
    """The method of that name that takes all of these, if there is one."""
    method = getattr(owner, name, None)
    if not callable(method):
        return None
    if parameters and not set(parameters) <= set(inspect.signature(method).parameters):
        return None
    return method


def _folder(trainer: Trainer) -> Path:
    # Not trainer.log_dir, which waits for all processes.
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
        os.replace(unfinished, path)  # a reader never sees half a file

    return write
