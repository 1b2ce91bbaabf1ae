"""Encoder: one call of a model, with the outputs of its layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from lightning_mi.embedding.outputs import OUTPUT, Location, copied, describe_output, frames_in_output
from lightning_mi.inputs.structure import UnknownStructureError

Forward = Callable[[Callable[[Tensor], Any], Tensor], Any]


@dataclass(frozen=True)
class Encoder:
    """How a module is called for embeddings, found by :func:`lightning_mi.embedding.discovery.find_encoder`.

    Attributes:
        name: Name of what is called, for messages.
        call: Function of segments in the layout of the batch that returns the output.
        layers: Names and submodules whose outputs are wanted; empty for the encoder's own output.
        squeeze_mono: Whether ``(B, 1, T)`` waveforms lose their channel dimension before the call.
        target: The module that is called; ``None`` if it is a function.
        model: The same, if it is one of a known library; else ``None``.
        forward: The LightningModule's own ``forward``, if ``model`` is one that it may call.
        unmasked: The same call with masks off that its signature asks for by default, and how it is described;
            ``None`` if there are none.
        rivals: Names of other models of known libraries that could have been chosen.
        prepare: What the segments go through before the call, such as another shape.
        locations: By layer name where the embedding is in the output (:mod:`lightning_mi.embedding.trial` finds
            it); ``None``: where it is assumed to be.
        runs: How often each layer ran in the last call.
    """

    name: str
    call: Callable[[Tensor], Any]
    layers: tuple[tuple[str, nn.Module], ...] = ()
    squeeze_mono: bool = False
    target: nn.Module | None = None
    model: nn.Module | None = None
    forward: Callable[[Tensor], Any] | None = None
    unmasked: tuple[Callable[[Tensor], Any], str] | None = None
    rivals: tuple[str, ...] = ()
    prepare: Callable[[Tensor], Tensor] | None = None
    locations: Mapping[str, Location] | None = field(default=None, hash=False)
    runs: Counter[str] = field(default_factory=Counter, hash=False, compare=False)

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the embeddings that :meth:`__call__` returns, in this order."""
        return tuple(name for name, _ in self.layers) or (OUTPUT,)

    def without_masks(self) -> Encoder:
        """The same, with masks off that its signature asks for by default, if there are any."""
        if self.unmasked is None:
            return self
        call, name = self.unmasked
        return replace(self, call=call, name=name)

    def __call__(self, waveforms: Tensor, forward: Forward | None = None) -> dict[str, Tensor]:
        """Encode ``(B, T)`` or ``(B, 1, T)`` waveforms, or feature sequences as the batch has them.

        Args:
            waveforms: The segments.
            forward: Calls a function with segments in the context that the model needs
                (:class:`lightning_mi.embedding.strategy.StrategyForward`). ``None``: a plain call.

        Returns:
            For each layer name a tensor ``(B, T', D)`` or ``(B, D)``.

        Raises:
            UnknownStructureError: (a ValueError) if the call fails, an output has no known structure, or a
                layer is not run.
        """
        return self.frames(self.run(waveforms, forward), len(waveforms))

    def run(self, waveforms: Tensor, forward: Forward | None = None) -> dict[str, Any]:
        """As :meth:`__call__`, but returns the outputs of the layers as they come, of any structure."""
        if waveforms.ndim == 3 and self.squeeze_mono:
            waveforms = waveforms[:, 0]
        if self.prepare is not None:
            waveforms = self.prepare(waveforms)
        captured: dict[str, Any] = {}
        self.runs.clear()
        handles = [layer.register_forward_hook(self._capture(captured, name)) for name, layer in self.layers]
        try:
            output = self.call(waveforms) if forward is None else forward(self.call, waveforms)
        except (TypeError, NotImplementedError) as error:
            raise UnknownStructureError(
                f"Calling {self.name} with segments of shape {tuple(waveforms.shape)} raised "
                f"{type(error).__name__}: {error}. Pass `embed=`, the dotted name of a submodule or method that "
                "takes them, or a callable that returns (B, T, D) or (B, D)."
            ) from error
        finally:
            for handle in handles:
                handle.remove()
        if not self.layers:
            return {OUTPUT: output}
        missing = [name for name in self.layer_names if name not in captured]
        if missing:
            raise UnknownStructureError(
                f"`layers` names {missing}, which {self.name} does not run. Name layers that it runs, or point "
                "`embed=` at what runs them."
            )
        return {name: captured[name] for name in self.layer_names}

    def _capture(self, captured: dict[str, Any], name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            self.runs[name] += 1
            captured[name] = copied(output)  # what comes next may write to it

        return hook

    def frames(self, outputs: dict[str, Any], batch_size: int) -> dict[str, Tensor]:
        """The embeddings ``(B, T', D)`` or ``(B, D)`` in what :meth:`run` returned."""
        return {name: self._frames(name, output, batch_size) for name, output in outputs.items()}

    def _frames(self, name: str, output: Any, batch_size: int) -> Tensor:
        if self.locations is None:
            frames = frames_in_output(output, batch_size)
        else:
            frames = self.locations[name].frames(output, batch_size)
        if frames is None:
            of = self.name if name == OUTPUT else f"layer {name!r}"
            raise UnknownStructureError(
                f"Cannot tell which part of the output of {of} is the embedding: expected one tensor of shape "
                f"(B, T, D) or (B, D) with B = {batch_size}, a list of layers or a ModelOutput, got "
                f"{describe_output(output)}. Pass `embed=`, the dotted name of a submodule or method, or a "
                "callable that returns (B, T, D) or (B, D)."
            )
        return frames
