"""Pictures go where people look: into the loggers that take images, else beside the logs."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn

from lightning_mi.reporting.history import History

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Send = Callable[[str, NDArray[np.uint8], int], object]  # tag, (height, width, 3), step


class Pictures:
    """Draws the history of a run and hands the pictures to the Trainer's loggers, on rank zero.

    ``<prefix>/curve``, ``<prefix>/clusters`` and, where there are several layers, ``<prefix>/layer_map`` go to
    every logger that takes images: TensorBoardLogger, WandbLogger, MLFlowLogger, and others with the same methods.
    Where none does, they are written as ``<log folder>/<prefix>/<name>.png``, always the newest. A Trainer without
    loggers, and one in ``fast_dev_run``, draws nothing.

    What fails, a missing matplotlib too, is one warning: the run goes on.

    Args:
        log_name: Name of the primary that the pictures are of; ``prefix`` is its last part.

    Example:
        >>> import tempfile
        >>> from lightning.pytorch.loggers import CSVLogger
        >>> from lightning_mi import MIEstimate
        >>> history = History()
        >>> history.append(0, 100, {("encoder", "near"): MIEstimate(1.5, 0.1, 4.0, 2.5, 4.85, 128, 120, 900, 900)})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     trainer = Trainer(logger=CSVLogger(folder), accelerator="cpu", enable_progress_bar=False)
        ...     Pictures("val/mi_bound").publish(trainer, history)
        ...     sorted(path.name for path in Path(folder).rglob("*.png"))
        ['clusters.png', 'curve.png']
    """

    def __init__(self, log_name: str = "val/mi_bound") -> None:
        self.log_name = log_name
        self._has_warned = False

    def publish(self, trainer: Trainer, history: History, layers: Sequence[str] | None = None) -> None:
        """Draw the history as it is now; nothing where it is empty, or on another process than the first.

        Args:
            trainer: Whose loggers are served.
            history: What is drawn; the step of its last validation is that of the pictures.
            layers: The names of the layers in the model's order, see :func:`lightning_mi.reporting.plots.layer_map`.
        """
        if not (_has_audience(trainer) and len(history)):
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
                    send(f"{_prefix(self.log_name)}/{name}", image, history.last.step)
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
        what = f"The pictures of {self.log_name!r} are missing"
        if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] == "matplotlib":
            rank_zero_warn(f"{what}: they need matplotlib, `pip install matplotlib`. All numbers are logged.")
        else:
            rank_zero_warn(f"{what}, the numbers are not: {type(error).__name__}: {error}")


def lay_out(trainer: Trainer, log_names: Iterable[str]) -> None:
    """Group the curves in TensorBoard's custom scalars: for each name the bound with its ceilings, its error and
    the gain, housekeeping, and the layers.

    TensorBoard knows one layout a run, the last that was written: call this once, early (``on_fit_start``) and for
    all names together, so that a user who writes a layout of their own later keeps it. Loggers without such
    layouts are passed over; what fails is a warning.

    Args:
        trainer: Whose loggers are served.
        log_names: Of all primaries of this run.

    Example:
        >>> import tempfile
        >>> from lightning.pytorch.loggers import CSVLogger
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     trainer = Trainer(logger=CSVLogger(folder), accelerator="cpu", enable_progress_bar=False)
        ...     lay_out(trainer, ["val/mi_bound"])  # a CSV file has no layout: nothing to do
    """
    if not _has_audience(trainer):
        return
    layout: dict[str, Any] = {}
    for name in log_names:
        layout |= _layout(name)
    for logger in trainer.loggers:
        try:
            add = _method(getattr(logger, "experiment", None), "add_custom_scalars")
            if add is not None:
                add(layout)
        except Exception as error:
            rank_zero_warn(f"TensorBoard's custom scalars lack the layout of {list(layout)}: {error}")


def _layout(log_name: str) -> dict[str, dict[str, list[Any]]]:
    """Category, chart, and the regular expressions of what it shows."""
    prefix = re.escape(_prefix(log_name))
    charts = {
        "bound, ceiling log K, entropy H(c), references (nats)": [
            f"^{re.escape(log_name)}$",
            f"^{prefix}/(ceiling|entropy)$",
            f"^{prefix}/(null|input|baseline)[^/]*(/bound)?$",
        ],
        "standard error, and gain over the best before (nats)": [f"^{prefix}/(stderr|gain|gain_stderr)$"],
        "clusters that occur": [f"^{prefix}/active_clusters$"],
        "pairs used and utterances skipped": [f"^{prefix}/(pairs|skipped)$"],
        "seconds": [f"^{prefix}/seconds$"],
        # The last: it is empty where neither several layers nor several distances are asked for.
        "bound of each layer, and at each distance (nats)": [
            f"^{prefix}/layers/.*/bound$",
            f"^{prefix}/gap_[^/]*/bound$",
        ],
    }
    return {log_name: {title: ["Multiline", patterns] for title, patterns in charts.items()}}


def _prefix(log_name: str) -> str:
    return log_name.rsplit("/", 1)[-1]


def _has_audience(trainer: Trainer) -> bool:
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
        os.replace(unfinished, path)  # whoever looks meanwhile sees a whole picture

    return write
