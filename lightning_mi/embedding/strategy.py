"""The forward call as the Trainer's strategy and precision want it, in lockstep among processes if it must be.

Random numbers that a model draws in eval mode must not be common to the two segments of a pair, nor to the rows at
one place of several batches: that would be counted as information. A generator serves a whole call, so a model
whose embeddings depend on random numbers is called with one segment at a time, seeded by the segment's key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, TypeVar

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lightning_mi.embedding.encoder import Encoder
from lightning_mi.embedding.isolation import isolated
from lightning_mi.embedding.lightning_packages import is_lightning_module, is_sharded
from lightning_mi.embedding.outputs import copied
from lightning_mi.embedding.trial import Answer, ask
from lightning_mi.failures import Failures
from lightning_mi.hashing import mix
from lightning_mi.inputs.layout import Layout
from lightning_mi.inputs.segments import Segments, SegmentSampler

T = TypeVar("T")

_METHOD = "_lightning_mi_encode"
_OTHER = 0x6F74686572  # another seed, to see whether the embeddings depend on it


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
        is_random: Whether its embeddings depend on random numbers; ``None`` if it has not drawn any.
    """

    def __init__(
        self, trainer: Trainer, module: LightningModule, seed: int, segment_shape: torch.Size | None
    ) -> None:
        self.has_called = False
        self.is_random: bool | None = None
        self._trainer = trainer
        self._module = module
        self._seed = seed
        self._segment_shape = segment_shape

    @property
    def in_lockstep(self) -> bool:
        """Whether every process must make the same number of calls."""
        return is_sharded(self._trainer.strategy)

    @property
    def is_uninitialized(self) -> bool:
        """Whether lazy parameters wait for the user's own first call, which gives them their shapes and values."""
        return any(map(is_lazy, [*self._module.parameters(), *self._module.buffers()]))

    @property
    def device(self) -> torch.device:
        """Device of the module."""
        return self._module.device

    def encode(
        self, encoder: Encoder, segments: Segments | None, failures: Failures
    ) -> Iterator[tuple[Segments, dict[str, Tensor]]]:
        """Encode the segments of one batch.

        In lockstep there is one call a batch on every process, on a placeholder if there is nothing to encode, and
        an exception of the module is raised here, since the other processes are in the middle of the same call.
        Otherwise no call holds more samples than the batch that the module has just been validated on, and the
        first exception is kept in ``failures``.

        A call is seeded by the keys of its segments. If the module's embeddings depend on random numbers, each
        segment has a call of its own, so what it draws depends neither on the batch nor on the number of
        processes; in lockstep, where that cannot be, they depend on the batch that it is in.

        Args:
            encoder: What is called.
            segments: Segments of the batch; ``None`` if they could not be read.
            failures: Failures of this process.

        Yields:
            Some of the segments, and by layer name the embeddings ``(n, T, D)`` or ``(n, D)`` of
            ``segments.samples.flatten(0, 1)``.
        """
        if segments is not None:
            self._segment_shape = segments.samples.shape[2:]
        if self.in_lockstep:
            encoder = encoder.without_masks()
            if segments is None or len(segments.samples) == 0:
                self.run(encoder, self._placeholder(failures), self._seed)
            else:
                rows = segments.samples.flatten(0, 1)
                outputs: dict[str, Any] = self.run(encoder, rows, self._seeds(segments)[0])[0]
                frames = failures.attempt(partial(encoder.frames, outputs, len(rows)))
                if frames is not None:
                    yield segments, frames
            return
        for part in segments.split() if segments is not None else []:
            frames = failures.attempt(partial(self._encode_part, encoder, part))
            if frames is not None:
                yield part, frames

    def run(
        self, encoder: Encoder, rows: Tensor, seed: int, read: Callable[[dict[str, Any]], T] = copied
    ) -> tuple[T, bool]:
        """Call the encoder with segments ``(n, ...)``.

        Returns:
            What ``read`` makes of the outputs of its layers, a copy of them by default, since an output may be a
            part of a buffer that is restored. And whether random numbers were drawn.
        """
        self.has_called = True
        with ExitStack() as isolation:
            randomness = isolation.enter_context(isolated(self._module, seed))
            if encoder.target is not None and all(encoder.target is not each for each in self._module.modules()):
                isolation.enter_context(isolated(encoder.target, seed))
            isolation.enter_context(_silenced(self._module))
            outputs = encoder.run(rows.clone(), self)  # a forward may change its input
            return read(outputs), randomness.was_drawn_from()

    def _embed(self, encoder: Encoder, rows: Tensor, seed: int) -> tuple[dict[str, Tensor], bool]:
        def read(outputs: dict[str, Any]) -> dict[str, Tensor]:
            return {name: x.clone() for name, x in encoder.frames(outputs, len(rows)).items()}

        return self.run(encoder, rows, seed, read)

    def ask(
        self, encoder: Encoder, rows: Tensor, layout: Layout, sample_rate: float, as_in_step: int | None = None
    ) -> Answer | None:
        """What a trial call tells of the encoder (:func:`lightning_mi.embedding.trial.ask`); ``None`` in lockstep,
        where a call that only one process makes, or that fails, would end the run."""
        if self.in_lockstep:
            return None
        return ask(encoder, self.run, rows, self._module, layout, sample_rate, as_in_step)

    def try_noise(self, encoder: Encoder, sampler: SegmentSampler) -> str | None:
        """Why a trial call with waveforms of noise fails, as text; ``None`` if it does not, or is not made."""
        if self.is_uninitialized:
            return None
        noise = torch.randn(4, sampler.segment_length, generator=torch.Generator().manual_seed(self._seed))
        module: Any = self._module
        try:
            self.ask(encoder, noise.to(module.device, module.dtype), sampler.layout, sampler.sample_rate)
        except Exception as error:
            return (
                f"cannot embed noise of shape {tuple(noise.shape)} with {encoder.name}, tried since there was no "
                f"sanity check: {type(error).__name__}: {error} If your batches hold waveforms of this shape, the "
                "validations will log no value. Set `num_sanity_val_steps` of the Trainer to see what they hold."
            )
        return None

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

    def _encode_part(self, encoder: Encoder, segments: Segments) -> dict[str, Tensor]:
        seeds = self._seeds(segments)
        if self.is_random:
            return self._run_one_by_one(encoder, segments.samples, seeds)
        rows = segments.samples.flatten(0, 1)
        frames, has_drawn = self._embed(encoder, rows, seeds[0])
        if has_drawn and self.is_random is None:
            # Many models draw and use it in training alone, for layer drop say.
            again, _ = self._embed(encoder, rows, seeds[0] ^ _OTHER)
            self.is_random = _differ(frames, again)
            if self.is_random:
                return self._run_one_by_one(encoder, segments.samples, seeds)
        return frames

    def _run_one_by_one(self, encoder: Encoder, samples: Tensor, seeds: list[int]) -> dict[str, Tensor]:
        # Each twice: of one row alone it cannot be told which part of an output has a row for each segment.
        pairs = [
            self._embed(encoder, torch.stack([row, row]), seed)[0]
            for row, seed in zip(samples.flatten(0, 1), seeds, strict=True)
        ]
        return {name: torch.cat([pair[name][:1] for pair in pairs]) for name in pairs[0]}

    def _seeds(self, segments: Segments) -> list[int]:
        """A seed for each row of ``segments.samples.flatten(0, 1)``, from its pair and its number in the pair."""
        numbers = torch.arange(segments.samples.shape[1], device=segments.keys.device)
        seeds: list[int] = mix(mix(segments.keys)[:, None] + numbers, self._seed).flatten().tolist()
        return seeds

    def _placeholder(self, failures: Failures) -> Tensor:
        """One silent segment ``(1, S)``."""
        if self._segment_shape is None:
            assert failures.error is not None
            raise failures.error  # the number of features is unknown, and a call with another would fail elsewhere
        module: Any = self._module
        return torch.zeros(1, *self._segment_shape, device=module.device, dtype=module.dtype)


@contextmanager
def _silenced(module: nn.Module) -> Iterator[None]:
    """The body logs nothing: what a forward logs is of the user's own calls. Isolation removes the names."""
    for each in module.modules():
        for name in ("log", "log_dict"):
            if is_lightning_module(each):
                vars(each)[name] = _log_nothing
    yield


def _log_nothing(*args: Any, **kwargs: Any) -> None:
    pass


def _differ(some: dict[str, Tensor], others: dict[str, Tensor]) -> bool:
    pairs = zip(some.values(), others.values(), strict=True)
    return not all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in pairs)
