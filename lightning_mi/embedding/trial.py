"""The trial call: what a model says of itself when it is called with a few segments of two lengths."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from lightning_mi.embedding.encoder import Encoder
from lightning_mi.embedding.isolation import cuda_devices
from lightning_mi.embedding.outputs import OUTPUT, Dims, Location, at
from lightning_mi.embedding.own_preparation import called_by_forward, prepares_input
from lightning_mi.embedding.prepare import AS_IT_IS, Prepare, candidates, first_taken
from lightning_mi.embedding.randomness import draws_of, global_generators
from lightning_mi.embedding.two_lengths import OutputReader
from lightning_mi.inputs.layout import Layout

Run = Callable[[Encoder, Tensor, int], tuple[dict[str, Any], bool]]

_ROWS, _OTHER_ROWS = 4, 6  # of the first call and of the second; even, for models that take views in pairs
_SEEDS = (0x747269616C, 0x616761696E)
_LAYERS_SHOWN = 3
_MOST_DIFFERENCE = 0.05  # of an embedding in a batch and on its own, relative; rounding in bfloat16 is below


@dataclass(frozen=True)
class Answer:
    """What the trial call has told.

    Attributes:
        locations: By layer name, where the embedding is in the output; ``None``: where it is assumed to be.
        prepare: What the segments must go through before the call.
        through_forward: Whether the model is to be called by the LightningModule's ``forward``, which prepares its
            input.
        unmask: Whether masks that its signature asks for by default are to be off.
        asked: Name of the encoder that was asked.
        line: What is embedded, in one line.
        doubts: What the user should check.
        draws_in: Names of the submodules that drew random numbers.
        embeddings: By layer name those of the first segments, ``(4, T, D)`` or ``(4, D)``.
    """

    locations: Mapping[str, Location] | None
    prepare: Prepare = AS_IT_IS
    through_forward: bool = False
    unmask: bool = False
    asked: str | None = None
    line: str = ""
    doubts: tuple[str, ...] = ()
    draws_in: tuple[str, ...] = ()
    embeddings: Mapping[str, Tensor] = field(default_factory=dict)

    def applied_to(self, encoder: Encoder) -> Encoder:
        """The encoder, called and read as the answer says."""
        if self.through_forward:
            encoder = called_by_forward(encoder)
        if self.unmask:
            encoder = encoder.without_masks()
        return replace(encoder, prepare=self.prepare, locations=self.locations)

    def is_of(self, encoder: Encoder) -> bool:
        """Whether it was this encoder, with these layers, that was asked."""
        layers = None if self.locations is None else set(self.locations)
        return self.asked in (None, encoder.name) and layers in (None, set(encoder.layer_names))

    @property
    def choices(self) -> tuple[Any, ...]:
        """What must be the same on all processes."""
        locations = None if self.locations is None else dict(self.locations)
        return locations, self.through_forward, self.unmask, self.prepare

    def doubt_of_rows(self, embeddings: Mapping[str, Tensor]) -> str | None:
        """What is to be said if the first segments' embeddings in a batch, ``(n, T, D)`` or ``(n, D)``, are not
        those that they had on their own."""
        if self.draws_in:
            return None  # that is said
        for name, alone in self.embeddings.items():
            together = embeddings[name][: len(alone)].to(alone)
            alone = alone[: len(together)]
            if together.shape == alone.shape and (together - alone).norm() > _MOST_DIFFERENCE * alone.norm():
                return (
                    f"finds that the embedding of a segment ({name}) is another in another call: it depends on "
                    "segments beside it (batch statistics in eval mode, attention among rows), on state from call "
                    "to call, or on a random generator that is not the model's. What the segments of one call "
                    "share then counts as information. Mend that in eval mode, or pass `embed=`."
                )
        return None


def ask(
    encoder: Encoder,
    run: Run,
    samples: Tensor,
    module: nn.Module,
    layout: Layout,
    sample_rate: float,
    as_in_step: int | None = None,
) -> Answer:
    """Call an encoder with a few segments of the first batch, twice: at their length and at twice that.

    If the module of a known library that is to be called lies inside of a LightningModule with a ``forward`` of
    its own, that is called, too: if it gives the model anything else than the segments (scaled, resampled, ...),
    the model is called through it.

    Args:
        encoder: What is called.
        run: Calls it without a trace: encoder, segments and seed to the outputs of its layers, and whether random
            numbers were drawn.
        samples: Segments ``(n, ...)`` in the layout of the batch.
        module: The LightningModule, to name the part that draws random numbers.
        layout: Layout of the batch.
        sample_rate: Samples (or frames) a second of the segments.
        as_in_step: Number of dimensions of the waveforms with which the validation step calls the encoder, if that
            is known.

    Raises:
        UnknownStructureError: (a ValueError) if an output has no embedding, or none that can be told.
        Exception: What the encoder raises, if it takes the segments in no shape.
    """
    short = _rows(samples, _ROWS)
    through_forward, doubt = prepares_input(encoder, lambda encoder: run(encoder, short, _SEEDS[0]), short)
    doubts = [] if doubt is None else [doubt]
    called = called_by_forward(encoder) if through_forward else encoder
    choices = candidates(short, module, layout, as_in_step)

    def call(prepare: Prepare) -> tuple[dict[str, Any], bool]:
        return run(replace(called, prepare=prepare), short, _SEEDS[0])

    prepare, (outputs, has_drawn) = first_taken(choices, call)
    unmask = has_drawn and called.unmasked is not None
    if unmask:
        called = called.without_masks()
        prepare, (outputs, has_drawn) = first_taken(choices, call)
    called = replace(called, prepare=prepare)
    doubts += _doubts_of_choice(called)
    time_dim = -1 if layout.time_dim is None else layout.time_dim
    other, others, draws_in = _call_with_another_length(called, run, samples, module, time_dim, has_drawn)
    lengths = short.shape[time_dim], None if other is None else other.shape[time_dim]
    locations, parts = {}, []
    for name, output in outputs.items():
        reader = OutputReader((_ROWS, _OTHER_ROWS), lengths, others.get(name), layout)
        locations[name] = location = reader.locate(output, _of(called, name))
        x = at(output, location.path)
        rate = reader.frame_rate(location, x, sample_rate)
        parts.append(f"{_described(name + location.key, location.dims, x)}{rate}")
        doubts += _doubts(called, name, location.dims, x)
    line = _line(called, parts)
    if prepare != AS_IT_IS:
        line += f" It is called with segments of shape {tuple(prepare(short).shape[1:])}, {prepare(short).dtype}."
    embeddings = {name: locations[name].frames(output, _ROWS) for name, output in outputs.items()}
    return Answer(
        locations,
        prepare,
        through_forward,
        unmask,
        encoder.name,
        line,
        tuple(doubts),
        draws_in,
        {name: x for name, x in embeddings.items() if x is not None},
    )


def assume(encoder: Encoder, embeddings: Mapping[str, Tensor]) -> Answer:
    """What is said of an encoder that cannot be asked, from its embeddings ``(n, T, D)`` or ``(n, D)``."""
    dims = {name: Dims(0, 1 if x.ndim == 3 else None) for name, x in embeddings.items()}
    parts = [_described(name, dims[name], x) for name, x in embeddings.items()]
    doubts = [doubt for name, x in embeddings.items() for doubt in _doubts(encoder, name, dims[name], x)]
    return Answer(None, line=_line(encoder, parts), doubts=tuple(doubts))


def _line(encoder: Encoder, parts: list[str]) -> str:
    kind = "" if encoder.model is None else f" ({type(encoder.model).__name__})"
    line = f"embeds segments with {encoder.name}{kind}: " + "; ".join(parts[:_LAYERS_SHOWN])
    return line + (f"; and {len(parts) - _LAYERS_SHOWN} more layers." if len(parts) > _LAYERS_SHOWN else ".")


def _doubts_of_choice(encoder: Encoder) -> list[str]:
    """Whether another model, or another run of a layer, may be meant."""
    doubts = [
        f"takes the last output of layer {name!r}, which runs {times} times in a call. If another one is meant, "
        "pass `embed=`."
        for name, times in encoder.runs.items()
        if times > 1 and name != OUTPUT
    ]
    if encoder.rivals:
        doubts.append(
            f"embeds with {encoder.name}, and could with {', '.join(encoder.rivals)}, which has parameters that "
            "require gradients, too. Pass `embed=`, the name of the one that you mean."
        )
    return doubts


def _of(encoder: Encoder, name: str) -> str:
    return encoder.name if name == OUTPUT else f"layer {name!r}"


def _doubts(encoder: Encoder, name: str, dims: Dims, x: Tensor) -> list[str]:
    """Whether time was seen, unless a library or the user's own function says where it is."""
    if dims.time is None or dims.grows or encoder.model is not None or encoder.target is None:
        return []
    return [
        f"cannot ask {_of(encoder, name)} which dimension of its output is time, since it gives as many frames "
        f"for longer segments, takes none, or is sharded: {tuple(x.shape)} is read as (B, T, D). Pass "
        "`embed=lambda module, x: ...`, a function that returns (B, T, D), to say so or to change it."
    ]


def _rows(samples: Tensor, number: int) -> Tensor:
    return samples[torch.arange(number, device=samples.device) % len(samples)]


def _call_with_another_length(
    encoder: Encoder, run: Run, samples: Tensor, module: nn.Module, time_dim: int, has_drawn: bool
) -> tuple[Tensor | None, dict[str, Any], tuple[str, ...]]:
    """Segments of another length and the outputs for them, if the encoder takes any; who drew random numbers."""
    rows = _rows(samples, _OTHER_ROWS)
    longer = torch.cat([rows, rows.roll(1, 0)], dim=time_dim)
    shorter = rows.narrow(time_dim % rows.ndim, 0, max(1, rows.shape[time_dim] // 2))
    for segments in (longer, shorter):
        try:
            if not has_drawn:
                return segments, run(encoder, segments, _SEEDS[1])[0], ()
            with draws_of(module, global_generators(cuda_devices(module))) as names:
                outputs = run(encoder, segments, _SEEDS[1])[0]
            return segments, outputs, tuple(dict.fromkeys(names))
        except Exception:  # a model of a fixed length
            continue
    return None, {}, ()


def _described(name: str, dims: Dims, x: Tensor) -> str:
    frames = dims.frames(x)
    sizes = ["B" if dim == dims.batch else str(size) for dim, size in enumerate(x.shape)]
    text = f"{name} ({', '.join(sizes)})"
    if frames.ndim == 2:
        return f"{text}, one vector of {frames.shape[1]} features"
    assumed = "" if dims.grows else " (assumed)"
    return f"{text}, {frames.shape[1]} frames of {frames.shape[2]} features{assumed}"
