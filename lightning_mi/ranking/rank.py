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
from torch import Tensor, nn
from tqdm.auto import tqdm  # type: ignore[import-untyped,unused-ignore]

from lightning_mi.callback import MIBoundCallback
from lightning_mi.embedding.lightning_packages import overrides
from lightning_mi.estimator import MIEstimate
from lightning_mi.ranking.checkpoints import Checkpoint, UnreadableCheckpointError
from lightning_mi.reporting.metric_names import metric_prefix
from lightning_mi.reporting.plot_style import ellipsize
from lightning_mi.validation.estimates import Key

_LOGGERS = ("lightning.pytorch", "lightning.fabric")  # which greet the user once for every Trainer


@dataclass(frozen=True)
class RankedModel:
    """One model's bound, and how far it is below the best. In nats, but for the counts.

    Attributes:
        name: As it was given.
        bound: The primary of the callback.
        stderr: Its standard error.
        delta_to_best: By how much the best model's bound is above this one, pair by pair, before either is floored
            at 0 (:meth:`lightning_mi.MIEstimate.gain_over`); 0 for the best; nan if fewer than 2
            utterances are shared.
        delta_to_best_stderr: Standard error of that difference, often smaller than those of the two bounds, since
            what is hard or easy in an utterance falls out; 0 for the best.
        pairs: How many pairs the bound is of.
        skipped: Utterances left out: too short, silent, or NaN in this model's embeddings.
        estimates: By the names of layer and gap, the primary first.
    """

    name: str
    bound: float
    stderr: float
    delta_to_best: float
    delta_to_best_stderr: float
    pairs: int
    skipped: int
    estimates: Mapping[Key, MIEstimate]


@dataclass(frozen=True)
class Ranking:
    """What :func:`rank_models` has found.

    Attributes:
        models: The highest bound first; of equal bounds, the one that is less below the best.
        left_out: Why each of the others has no bound, by its name.
    """

    models: tuple[RankedModel, ...]
    left_out: Mapping[str, str]


def rank_models(
    models: Mapping[str, LightningModule | nn.Module | Callable[..., Any] | Checkpoint],
    data: Any,
    callback: Callable[[], MIBoundCallback] = MIBoundCallback,
    trainer: Callable[..., Trainer] = Trainer,
    progress_bar: bool = True,
) -> Ranking:
    """Rank models by a lower bound on the mutual information of two segments of an utterance, in nats.

    Each model is validated on the same data by a Trainer with a callback of its own, all of the same settings.
    Which segments, which pairs and which split are taken depends on the samples and the seed alone, so they are
    the same for all models, and differences are taken pair by pair. A model that cannot be loaded or gives no
    bound is named with the reason, and the others go on.

    The bound counts all that two segments share. Within one training run it ranks checkpoints; among models of
    different kinds see the limits in ``examples/model_selection/README.md``.

    Args:
        models: By name, each one of: a LightningModule that validates; any other module, such as torchaudio's
            (``bundle.get_model()``) or transformers' (``AutoModel.from_pretrained(...)``); a callable of the
            waveforms ``(B, T)`` (``(B, 1, T)`` if the batches are) that returns ``(B, T', D)`` or ``(B, D)``; a
            :class:`~lightning_mi.ranking.Checkpoint`, loaded when its turn comes and then freed. What is no
            LightningModule is wrapped in one as ``model``, so ``layers`` and ``embed`` of the callback begin with
            ``model``.
        data: What ``Trainer.validate`` takes: a dataloader or several, whose batches hold waveforms, or a
            LightningDataModule.
        callback: Makes the callback, e.g. ``partial(MIBoundCallback, num_clusters=64, layers="all")``.
        trainer: Makes the Trainer, e.g. ``partial(Trainer, accelerator="cpu", limit_val_batches=20)``. It is
            asked for one that has one process on one device, and leaves nothing on disk.
        progress_bar: Whether to show one, on a terminal.

    Returns:
        The ranking. Modules come back on the CPU, where the Trainer leaves them.

    Raises:
        TypeError: If a model is neither a module nor a callable nor a checkpoint.
        ValueError: If there are no models.
        Exception: What the ``build`` of a checkpoint, ``callback`` or ``trainer`` raises.

    Example:
        >>> import torch
        >>> from functools import partial
        >>> generator = torch.Generator().manual_seed(0)
        >>> voice = torch.rand(200, 1, generator=generator)  # louder or softer, for the whole utterance
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
        raise ValueError("`models` must name at least one model, got none.")
    for name, model in models.items():
        if not isinstance(model, Checkpoint) and not callable(model):
            raise TypeError(
                f"`models` must hold modules, callables of waveforms and checkpoints, got for {name!r} a "
                f"{type(model).__name__}. Wrap it in a function of the waveforms (B, T) that returns (B, T', D) "
                "or (B, D)."
            )
    measured: dict[str, _Measured] = {}
    left_out: dict[str, str] = {}
    said: set[str] = set()
    # None: shown on a terminal only.
    with (
        _quiet(),
        tqdm(total=len(models), desc="ranking", unit="model", disable=None if progress_bar else True) as bar,
    ):
        for name, model in models.items():
            bar.set_postfix_str(ellipsize(name, 30))
            try:
                measured[name] = _measure(model, data, callback, trainer, said)
            except _NoBoundError as reason:
                left_out[name] = str(reason)
            bar.update()
    return Ranking(_sorted(measured), left_out)


class _ModuleWrapper(LightningModule):
    """A module or callable for a Trainer to validate: it is not asked for anything but embeddings."""

    def __init__(self, model: Callable[..., Any]) -> None:
        super().__init__()
        self.model = model

    def forward(self, waveforms: Tensor) -> Any:
        return self.model(waveforms)

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        pass


class _NoBoundError(Exception):
    """There is no bound of a model; the message says why."""


@dataclass(frozen=True)
class _Measured:
    estimates: dict[Key, MIEstimate]
    skipped: int

    @property
    def primary(self) -> MIEstimate:
        return next(iter(self.estimates.values()))


def _measure(
    model: Any,
    data: Any,
    new_callback: Callable[[], MIBoundCallback],
    new_trainer: Callable[..., Trainer],
    said: set[str],
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
    with _new_warnings_only(said, callback):
        try:
            trainer.validate(model, data, verbose=False)
        except Exception as error:  # of this model, which is no reason to leave the others unranked
            raise _NoBoundError(f"{type(error).__name__}: {error}") from error
    if not callback.estimates:
        raise _NoBoundError(callback.no_value_reason or "the validation data gave no pairs")
    skipped = trainer.callback_metrics.get(f"{metric_prefix(callback.arguments.log_name)}/skipped", 0)
    return _Measured(dict(callback.estimates), int(skipped))


def _sorted(measured: Mapping[str, _Measured]) -> tuple[RankedModel, ...]:
    if not measured:
        return ()
    best = max(measured, key=lambda name: measured[name].primary.bound)
    ranked = []
    for name, found in measured.items():
        primary = found.primary
        gap, stderr = (0.0, 0.0) if name == best else _delta(measured[best].primary, primary)
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
            )
        )
    return tuple(sorted(ranked, key=lambda model: (model.name != best, -model.bound, model.delta_to_best)))


def _delta(best: MIEstimate, other: MIEstimate) -> tuple[float, float]:
    """How far ``best`` is above ``other``, with its standard error; nan if they share fewer than 2 groups."""
    try:
        return best.gain_over(other)
    except ValueError:  # too few shared utterances: no reason to lose the other models' ranks
        return math.nan, math.nan


@contextmanager
def _new_warnings_only(said: set[str], callback: MIBoundCallback) -> Iterator[None]:
    """Let each warning pass that has not been ``said``, since most would come once for every model, but not the
    callback's reason for no value, which the ranking reports."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        text, reason = str(warning.message), callback.no_value_reason
        if text not in said and not (reason is not None and text.endswith(reason)):
            said.add(text)
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
