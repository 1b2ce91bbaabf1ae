"""The forward call as the Trainer's strategy and precision want it, in lockstep among processes if it must be."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lightning_mi.embedding.encoder import Encoder
from lightning_mi.embedding.isolation import isolated
from lightning_mi.embedding.lightning_packages import is_sharded
from lightning_mi.failures import Failures
from lightning_mi.inputs.segments import Segments

_METHOD = "_lightning_mi_encode"


class StrategyForward:
    """Calls parts of a module as its Trainer would, and leaves no trace in it.

    Parameters that are sharded among processes are gathered by the wrapper's ``forward`` and by collectives in
    it. There the call goes through the wrapper, as the Trainer's own steps do, and every process must make the
    same number of calls (lockstep).

    Args:
        trainer: The Trainer that the module is attached to.
        module: The module.
        seed: Seed of the random numbers that the module draws.
        segment_shape: Shape of one segment, ``(S,)``; ``None`` if it is not known before the first batch.

    Attributes:
        has_called: Whether the module has been called.
    """

    def __init__(
        self, trainer: Trainer, module: LightningModule, seed: int, segment_shape: torch.Size | None
    ) -> None:
        self.has_called = False
        self._trainer = trainer
        self._module = module
        self._seed = seed
        self._segment_shape = segment_shape

    @property
    def in_lockstep(self) -> bool:
        """Whether every process must make the same number of calls."""
        return is_sharded(self._trainer.strategy)

    @property
    def device(self) -> torch.device:
        """Device of the module."""
        return self._module.device

    def encode(
        self, encoder: Encoder, segments: Segments | None, failures: Failures
    ) -> Iterator[tuple[Segments, dict[str, Any]]]:
        """Encode the segments of one batch.

        In lockstep there is one call a batch on every process, on a placeholder if there is nothing to encode, and
        an exception of the module is raised here, since the other processes are in the middle of the same call.
        Otherwise no call holds more samples than the batch that the module has just been validated on, and the
        first exception is kept in ``failures``.

        Args:
            encoder: What is called.
            segments: Segments of the batch; ``None`` if they could not be read.
            failures: Failures of this process.

        Yields:
            Some of the segments, and the outputs of :meth:`lightning_mi.embedding.encoder.Encoder.run` for
            ``segments.samples.flatten(0, 1)``.
        """
        if segments is not None:
            self._segment_shape = segments.samples.shape[2:]
        if self.in_lockstep:
            if segments is None or len(segments.samples) == 0:
                self._run(encoder, self._placeholder(failures))
            else:
                yield segments, self._run(encoder, segments.samples)
            return
        for part in segments.split() if segments is not None else []:
            outputs = failures.attempt(partial(self._run, encoder, part.samples))
            if outputs is not None:
                yield part, outputs

    def __call__(self, call: Any, waveforms: Tensor) -> Any:
        """``call(waveforms)`` in the Trainer's precision and, if parameters are sharded, through its wrapper."""
        strategy = self._trainer.strategy
        with self._trainer.precision_plugin.forward_context():
            if not self.in_lockstep or strategy.model is self._module:
                return call(waveforms)
            assert strategy.model is not None
            # Redirection looks the method up by its name. Isolation removes the name afterwards.
            vars(self._module)[_METHOD] = call
            return strategy._forward_redirection(strategy.model, self._module, _METHOD, waveforms)

    def _run(self, encoder: Encoder, samples: Tensor) -> dict[str, Any]:
        self.has_called = True
        with isolated(self._module, self._seed):
            return encoder.run(samples.flatten(0, 1), self)

    def _placeholder(self, failures: Failures) -> Tensor:
        """One silent anchor ``(1, 1, S)`` without partners."""
        if self._segment_shape is None:
            assert failures.error is not None
            raise failures.error  # the number of features is unknown, and a call with another would fail elsewhere
        module: Any = self._module
        return torch.zeros(1, 1, *self._segment_shape, device=module.device, dtype=module.dtype)
