"""One runner for the callback: a Trainer's validate, test or fit, and what it logged and warned."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import lightning.pytorch as pl

from lightning_mi import MIBoundCallback, MIEstimate
from tests.helpers.models import TinySpeechModel, loader, quiet_trainer
from tests.helpers.speech import SAMPLE_RATE, utterances

# The paper's preset. What `utterances` share lasts for all of each, and means encode it best.
PAPER = {"pooling": "mean", "quantizer": "kmeans", "channels": "shared"}
# Each utterance is a pair, in the order in which a test writes them out.
ONE_PAIR = {"pairs_per_utterance": 1}


@dataclass
class Run:
    """What came of a run.

    Attributes:
        logged: The last values of all metrics by name.
        epochs: In ``fit``, the values after each validation.
        estimates: In ``fit``, the callback's estimates after each validation.
        warnings: Texts of the callback's warnings.
        callback: The callback.
        trainer: The Trainer.
    """

    logged: dict[str, float]
    warnings: list[str]
    callback: MIBoundCallback
    trainer: pl.Trainer
    epochs: list[dict[str, float]] = field(default_factory=list)
    estimates: list[dict[tuple[str, str], MIEstimate]] = field(default_factory=list)

    @property
    def bound(self) -> float:
        """The primary bound."""
        return self.logged["val/mi_bound"]

    @property
    def estimate(self) -> MIEstimate:
        """The primary estimate."""
        return next(iter(self.callback.estimates.values()))


class Recorder(pl.Callback):
    """Keeps all metrics, and the estimates of ``callback``, after each validation of a fit."""

    def __init__(self, callback: MIBoundCallback) -> None:
        self.callback = callback
        self.epochs: list[dict[str, float]] = []
        self.estimates: list[dict[tuple[str, str], MIEstimate]] = []

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            metrics = trainer.logged_metrics | trainer.callback_metrics
            self.epochs.append({name: float(value) for name, value in metrics.items()})
            self.estimates.append(dict(self.callback.estimates))


@contextmanager
def callback_warnings(name: str = "MIBoundCallback") -> Iterator[list[str]]:
    """The texts of the callback's warnings in the body: a list that is filled when the body ends, however it ends.

    Args:
        name: The class of the callback, with which its warnings begin.
    """
    texts: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield texts
        finally:
            texts += [text for text in (str(each.message) for each in caught) if name in text]


def mi_callback(**arguments: Any) -> MIBoundCallback:
    """The callback for `utterances`: the paper's preset with 8 clusters and one pair an utterance, unless
    ``arguments`` say otherwise."""
    return MIBoundCallback(**({"num_clusters": 8, "sample_rate": SAMPLE_RATE} | PAPER | ONE_PAIR | arguments))


def run_callback(
    module: pl.LightningModule | None = None,
    data: Any = None,
    fn: str = "validate",
    callback: MIBoundCallback | None = None,
    train: Any = None,
    trainer: dict[str, Any] | None = None,
    callbacks: list[pl.Callback] | None = None,
    ckpt_path: Any = None,
    **arguments: Any,
) -> Run:
    """Run the callback once.

    Args:
        module: What is validated. ``None``: a :class:`TinySpeechModel`.
        data: Validation utterances ``(N, T)`` or loaders. ``None``: 200 utterances.
        fn: ``"validate"``, ``"test"`` or ``"fit"``.
        callback: The callback. ``None``: :func:`mi_callback` of ``arguments``.
        train: Training utterances or loader of ``"fit"``. ``None``: 64 utterances.
        trainer: Further arguments of the Trainer.
        callbacks: Further callbacks.
        ckpt_path: What a ``"fit"`` resumes from.
        arguments: Arguments of the callback.
    """
    module = TinySpeechModel() if module is None else module
    callback = mi_callback(**arguments) if callback is None else callback
    recorder = Recorder(callback)
    made = quiet_trainer(callbacks=[callback, *(callbacks or []), recorder], **(trainer or {}))
    data, train = _loaders(utterances(200) if data is None else data), _loaders(train)
    with callback_warnings() as texts:
        if fn == "fit":
            train = loader(utterances(64, seed=1)) if train is None else train
            made.fit(module, train, data, ckpt_path=ckpt_path)
        else:
            getattr(made, fn)(module, data, verbose=False)
    logged = {name: float(value) for name, value in made.callback_metrics.items()}
    return Run(logged, texts, callback, made, recorder.epochs, recorder.estimates)


def validate(*args: Any, **kwargs: Any) -> tuple[dict[str, float], list[str]]:
    """What :func:`run_callback` logged, and the warnings of the callback."""
    run = run_callback(*args, **kwargs)
    return run.logged, run.warnings


def _loaders(data: Any) -> Any:
    return loader(data) if hasattr(data, "ndim") else data
