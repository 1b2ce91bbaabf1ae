"""What a run says at its end: the table of its epochs, and the curve of the bound."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint


@dataclass(frozen=True)
class Point:
    """One validation: ``epoch`` is ``None`` before training; ``bound``, ``stderr`` and ``ceiling`` are in nats."""

    epoch: int | None
    step: int
    bound: float
    stderr: float
    ceiling: float
    loss: float | None


class Curve(pl.Callback):
    """Keeps what each validation has logged.

    Args:
        log_name: the bound's name, as given to the callback that logs it.

    Attributes:
        points: one :class:`Point` a validation that logged a bound, in their order.
    """

    def __init__(self, log_name: str = "val/mi_bound") -> None:
        self.log_name = log_name
        self.points: list[Point] = []

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Read the logged values."""
        logged = {name: float(value) for name, value in trainer.logged_metrics.items()}
        logged |= {name: float(value) for name, value in trainer.callback_metrics.items()}
        if trainer.sanity_checking or self.log_name not in logged:
            return
        details = self.log_name.rsplit("/", 1)[-1]
        self.points.append(
            Point(
                epoch=trainer.current_epoch if trainer.state.fn == "fit" else None,
                step=trainer.global_step,
                bound=logged[self.log_name],
                stderr=logged[f"{details}/stderr"],
                ceiling=logged[f"{details}/ceiling"],
                loss=logged.get("val/loss"),
            )
        )

    def table(self, checkpoint: ModelCheckpoint | None = None) -> str:
        """The validations as text, the one whose checkpoint was chosen marked."""
        chosen = None
        if checkpoint is not None and checkpoint.best_model_score is not None:
            score = float(checkpoint.best_model_score)
            trained = [point for point in self.points if point.epoch is not None]
            chosen = next((point for point in trained if point.bound == score), None)  # the first of equals
        lines = ["    epoch    step   val/loss   val/mi_bound ± stderr (nats)"]
        for point in self.points:
            epoch = "untrained" if point.epoch is None else str(point.epoch)
            loss = "" if point.loss is None else f"{point.loss:.4f}"
            mark = "  <- chosen checkpoint" if point is chosen else ""
            lines.append(
                f"{epoch:>9} {point.step:>7} {loss:>10}   {point.bound:>12.3f} ± {point.stderr:.3f}{mark}"
            )
        return "\n".join(lines)

    def draw(self, path: str | Path) -> None:
        """Write the curve with its error band and its ceiling to an image file.

        Args:
            path: a file name that ends in an image format's name, such as ``mi_bound.png``.
        """
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        steps = [point.step for point in self.points]
        bounds = [point.bound for point in self.points]
        figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
        axes.plot(steps, bounds, color="#0072B2", marker="o", label="bound")
        axes.fill_between(
            steps,
            [point.bound - 2 * point.stderr for point in self.points],
            [point.bound + 2 * point.stderr for point in self.points],
            color="#0072B2",
            alpha=0.2,
            linewidth=0,
            label="± 2 standard errors",
        )
        axes.axhline(self.points[-1].ceiling, color="#D55E00", linestyle="--", label="ceiling, log K")
        if self.points[0].epoch is None:
            axes.axhline(bounds[0], color="0.4", linestyle=":", label="untrained")
        best = max(range(len(bounds)), key=bounds.__getitem__)
        axes.plot(
            steps[best], bounds[best], marker="*", markersize=15, color="#009E73", linestyle="", label="best"
        )
        axes.set_xlabel("training step")
        axes.set_ylabel("mutual information of two segments,\nlower bound (nats)")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
        figure.savefig(path, dpi=150)
        plt.close(figure)
