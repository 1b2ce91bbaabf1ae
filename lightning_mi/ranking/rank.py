"""rank_models: models ranked by the bound on one set of held-out speech, the same pairs for all."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from torch import Tensor, nn
from tqdm.auto import tqdm  # type: ignore[import-untyped,unused-ignore]

from lightning_mi.callback import MIBoundCallback
from lightning_mi.embedding.lightning_packages import overrides
from lightning_mi.estimator import MIEstimate
from lightning_mi.estimator.group_scores import GroupScores
from lightning_mi.ranking.checkpoints import Checkpoint, UnreadableCheckpointError
from lightning_mi.reporting.metric_names import metric_prefix
from lightning_mi.reporting.plot_style import ellipsize
from lightning_mi.validation.estimates import DIFFERENCES, Key, difference

_LOGGERS = ("lightning.pytorch", "lightning.fabric")  # each new Trainer logs its devices and tips


@dataclass(frozen=True)
class RankedModel:
    """One model's bound and its delta to the best, in nats.

    Attributes:
        name: Name of the model, a key of ``models`` of :func:`rank_models`.
        bound: The callback's primary bound, in nats.
        stderr: Its standard error, in nats.
        delta_to_best: The best model's score (see :class:`Ranking`) minus this one's, in nats: a paired
            difference, before a bound is floored at 0 (:meth:`lightning_mi.MIEstimate.gain_over`). 0 for the best;
            nan if the two models share fewer than 2 utterances.
        delta_to_best_stderr: Standard error of that difference, in nats. It is often smaller than those of the two
            bounds, since the difficulty of an utterance cancels. 0 for the best.
        pairs: Number of pairs that the bound was estimated from.
        skipped: Number of utterances left out: too short, silent, or with NaN in this model's embeddings.
        estimates: Estimates by the names of layer and gap, the primary first.
        content: ``content`` and its standard error, in nats, as the callback logs them; ``None`` without it.
    """

    name: str
    bound: float
    stderr: float
    delta_to_best: float
    delta_to_best_stderr: float
    pairs: int
    skipped: int
    estimates: Mapping[Key, MIEstimate]
    content: tuple[float, float] | None = None

    @property
    def score(self) -> tuple[float, float]:
        """What the model is ranked by and its standard error, in nats: ``content`` if there is any, else the
        bound."""
        return self.content or (self.bound, self.stderr)


@dataclass(frozen=True)
class Ranking:
    """Result of :func:`rank_models`.

    Attributes:
        models: Models with a bound, that of the highest score first; equal scores are sorted by their delta to the
            best. The score is ``content`` with the gaps ``"same"`` and ``"far"``, as in ``preset="content"``, else
            the bound.
        left_out: Reason why a model has no bound, by the name of the model.
    """

    models: tuple[RankedModel, ...]
    left_out: Mapping[str, str]

    @property
    def by(self) -> str:
        """Name of the score: ``"content"`` or ``"bound"``."""
        return "content" if self.models and self.models[0].content is not None else "bound"


def rank_models(
    models: Mapping[str, LightningModule | nn.Module | Callable[..., Any] | Checkpoint],
    data: Any,
    callback: Callable[[], MIBoundCallback] = MIBoundCallback,
    trainer: Callable[..., Trainer] = Trainer,
    progress_bar: bool = True,
) -> Ranking:
    """Rank models by a lower bound on the mutual information of two segments of an utterance, in nats.

    Each model is validated on the same data by a new Trainer with a new callback of the same settings. Segments,
    pairs and the split depend on the samples and the seed alone, so they are the same for all models, and
    differences between models are paired. A model that cannot be loaded or gives no bound is listed with the
    reason, and the others are ranked.

    The bound counts everything that two segments share. It ranks the checkpoints of one training run. Before you
    compare models with different objectives, see the limits in ``examples/model_selection/README.md``.

    Args:
        models: Models by name. Each is a LightningModule with a ``validation_step``; any other module, such as
            torchaudio's (``bundle.get_model()``) or transformers' (``AutoModel.from_pretrained(...)``); a callable
            that maps waveforms ``(B, T)`` (``(B, 1, T)`` if the batches have this shape) to ``(B, T', D)`` or
            ``(B, D)``; or a :class:`~lightning_mi.ranking.Checkpoint`, which is loaded only while it is validated.
            All but the first kind are wrapped in a LightningModule as its attribute ``model``, so the callback's
            ``layers`` and ``embed`` begin with ``model`` for them.
        data: Argument of ``Trainer.validate``: one or several dataloaders whose batches hold waveforms, or a
            LightningDataModule.
        callback: Makes the callback, e.g. ``partial(MIBoundCallback, num_clusters=64, layers="all")``.
        trainer: Makes the Trainer, e.g. ``partial(Trainer, accelerator="cpu", limit_val_batches=20)``. It is
            called with one device, and without loggers and checkpoints.
        progress_bar: Whether to show the models that are ranked, and the batches and estimates of the one in
            hand, on stderr if that is a terminal.

    Returns:
        The ranking, bounds in nats. The Trainer leaves the modules on the CPU.

    Raises:
        TypeError: If a model is neither a module nor a callable nor a checkpoint.
        ValueError: If there are no models.
        Exception: Any error of ``callback``, ``trainer`` or a checkpoint's ``build``.

    Example:
        >>> import torch
        >>> from functools import partial
        >>> generator = torch.Generator().manual_seed(0)
        >>> voice = torch.rand(200, 1, generator=generator)  # loudness of the whole utterance
        >>> speech = voice * torch.randn(200, 2000, generator=generator)
        >>> ranking = rank_models(
        ...     {
        ...         "zero crossings": lambda x: (x[:, 1:] * x[:, :-1] < 0).float().mean(dim=1, keepdim=True),
        ...         "loudness": lambda x: x.std(dim=1, keepdim=True),
        ...     },
        ...     torch.utils.data.DataLoader(speech, batch_size=50),
        ...     callback=partial(MIBoundCallback, num_clusters=4, sample_rate=1000, channels="shared"),
        ...     trainer=partial(Trainer, accelerator="cpu"),
        ...     progress_bar=False,
        ... )
        >>> [model.name for model in ranking.models]
        ['loudness', 'zero crossings']
        >>> ranking.models[1].delta_to_best > 3 * ranking.models[1].delta_to_best_stderr
        True
    """
    if not models:
        raise ValueError("`models` must hold at least one model, got an empty mapping.")
    for name, model in models.items():
        if not isinstance(model, Checkpoint) and not callable(model):
            raise TypeError(
                f"`models` must hold modules, callables or checkpoints, got {type(model).__name__} for {name!r}. "
                "Pass a function that maps waveforms (B, T) to (B, T', D) or (B, D)."
            )
    measured: dict[str, _Measured] = {}
    left_out: dict[str, str] = {}
    warned: set[str] = set()
    # `disable=None` of tqdm: shown on a terminal only.
    with (
        _quiet(),
        tqdm(total=len(models), desc="ranking", unit="model", disable=None if progress_bar else True) as bar,
    ):
        for name, model in models.items():
            bar.set_postfix_str(ellipsize(name, 30))
            try:
                measured[name] = _measure(model, data, callback, trainer, warned, shown=not bar.disable)
            except _NoBoundError as reason:
                left_out[name] = str(reason)
            bar.update()
    return Ranking(_sorted(measured), left_out)


class _ModuleWrapper(LightningModule):
    """A module or callable as a LightningModule whose ``validation_step`` does nothing."""

    def __init__(self, model: Callable[..., Any]) -> None:
        super().__init__()
        self.model = model

    def forward(self, waveforms: Tensor) -> Any:
        return self.model(waveforms)

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        pass


class _BarOfOneModel(TQDMProgressBar):
    """Batches, and then estimates, of the model in hand, below the bar of all models."""

    validation_description = "embedding"

    def init_validation_tqdm(self) -> Any:
        return tqdm(unit="batch", leave=False, dynamic_ncols=True, bar_format=self.BAR_FORMAT)


class _NoBoundError(Exception):
    """A model has no bound; the message is the reason."""


@dataclass(frozen=True)
class _Measured:
    estimates: dict[Key, MIEstimate]
    skipped: int

    @property
    def primary(self) -> MIEstimate:
        return next(iter(self.estimates.values()))

    @property
    def content(self) -> tuple[float, float] | None:
        return difference(self.estimates, next(iter(self.estimates))[0], "content")

    @property
    def scores(self) -> GroupScores:
        """Those of what the model is ranked by."""
        layer = next(iter(self.estimates))[0]
        same, far = (self.estimates.get((layer, gap)) for gap in DIFFERENCES["content"])
        assert self.primary.scores is not None
        if self.content is None or same is None or far is None or same.scores is None or far.scores is None:
            return self.primary.scores
        return same.scores.floored().minus(far.scores.floored())


def _measure(
    model: Any,
    data: Any,
    new_callback: Callable[[], MIBoundCallback],
    new_trainer: Callable[..., Trainer],
    warned: set[str],
    shown: bool,
) -> _Measured:
    if isinstance(model, Checkpoint):
        try:
            model = model.load()
        except UnreadableCheckpointError as error:
            raise _NoBoundError(str(error)) from error
    if not (isinstance(model, LightningModule) and overrides(model, "validation_step")):
        model = _ModuleWrapper(model)
    callback = new_callback()
    trainer = new_trainer(
        callbacks=[callback],
        devices=1,
        num_nodes=1,
        strategy="auto",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    if shown:
        trainer.callbacks.append(_BarOfOneModel())  # type: ignore[attr-defined]
    with _new_warnings_only(warned, callback):
        try:
            trainer.validate(model, data, verbose=False)
        except Exception as error:  # the other models are still ranked
            raise _NoBoundError(f"{type(error).__name__}: {error}") from error
    if not callback.estimates:
        raise _NoBoundError(callback.no_value_reason or "the validation data gave no pairs")
    skipped = trainer.callback_metrics.get(f"{metric_prefix(callback.arguments.log_name)}/skipped", 0)
    return _Measured(dict(callback.estimates), int(skipped))


def _sorted(measured: Mapping[str, _Measured]) -> tuple[RankedModel, ...]:
    if not measured:
        return ()

    def score(name: str) -> float:
        return (measured[name].content or (measured[name].primary.bound,))[0]

    best = max(measured, key=score)
    ranked = []
    for name, found in measured.items():
        primary = found.primary
        gap, stderr = (0.0, 0.0) if name == best else _delta(measured[best].scores, found.scores)
        ranked.append(
            RankedModel(
                name,
                primary.bound,
                primary.stderr,
                gap,
                stderr,
                primary.num_pairs,
                found.skipped,
                found.estimates,
                found.content,
            )
        )
    return tuple(sorted(ranked, key=lambda model: (model.name != best, -model.score[0], model.delta_to_best)))


def _delta(best: GroupScores, other: GroupScores) -> tuple[float, float]:
    """Paired difference of the scores and its standard error, nan if they share fewer than 2 groups."""
    try:
        return best.gain_over(other)
    except ValueError:  # too few shared utterances; the models still have ranks
        return math.nan, math.nan


@contextmanager
def _new_warnings_only(warned: set[str], callback: MIBoundCallback) -> Iterator[None]:
    """Pass on only warnings that are not in ``warned``, since most would be repeated for every model.

    The callback's reason for no value is not passed on, since the ranking reports it.
    """
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
    finally:  # a model that fails may have warned of the cause
        for warning in caught:
            text, reason = str(warning.message), callback.no_value_reason
            if text not in warned and not (reason is not None and text.endswith(reason)):
                warned.add(text)
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


@contextmanager
def _quiet() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
