"""The trial call: what a model says of itself when it is called with a few segments of two lengths.

The dimension of an output that follows the number of segments holds the rows; the one that follows their length is
time. So channel-first outputs, ``(T, B, D)`` and layers of odd shapes are read right without a word from the user,
and what is as long as the segment itself is a waveform and no embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from lightning_mi.embedding.encoder import Encoder
from lightning_mi.embedding.isolation import cuda_devices
from lightning_mi.embedding.outputs import (
    OUTPUT,
    Dims,
    Location,
    Path,
    assumed_dims,
    at,
    describe_output,
    locate,
    tensors_in,
)
from lightning_mi.embedding.randomness import drawn_from, global_generators
from lightning_mi.inputs.layout import Layout
from lightning_mi.inputs.structure import UnknownStructureError

Run = Callable[[Encoder, Tensor, int], tuple[dict[str, Any], bool]]

_ROWS = 3  # of the first call; the second has one more
_SEEDS = (0x747269616C, 0x616761696E)
_MOST_WAVEFORM_FEATURES = 16  # sources, channels; an encoder has more
_LAYERS_SHOWN = 3


@dataclass(frozen=True)
class Answer:
    """What the trial call has told.

    Attributes:
        locations: By layer name, where the embedding is in the output; ``None``: where it is assumed to be.
        prepare: What the segments must go through before the call; ``None`` for nothing.
        through_forward: Whether the model is to be called by the LightningModule's ``forward``, which prepares its
            input.
        line: What is embedded, in one line.
        doubts: What the user should check.
        draws_in: Names of the submodules that drew random numbers.
    """

    locations: Mapping[str, Location] | None
    prepare: Callable[[Tensor], Tensor] | None = None
    through_forward: bool = False
    line: str = ""
    doubts: tuple[str, ...] = ()
    draws_in: tuple[str, ...] = ()

    def applied_to(self, encoder: Encoder) -> Encoder:
        """The encoder, called and read as the answer says."""
        if self.through_forward:
            encoder = _through_forward(encoder)
        return replace(encoder, prepare=self.prepare, locations=self.locations)

    def is_of(self, encoder: Encoder) -> bool:
        """Whether the encoder has the layers that were asked."""
        return self.locations is None or set(self.locations) == set(encoder.layer_names)

    @property
    def choices(self) -> tuple[Any, ...]:
        """What must be the same on all processes."""
        locations = None if self.locations is None else dict(self.locations)
        return locations, self.through_forward, getattr(self.prepare, "__name__", None)


def ask(
    encoder: Encoder, run: Run, samples: Tensor, module: nn.Module, layout: Layout, sample_rate: float
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

    Raises:
        UnknownStructureError: (a ValueError) if an output has no embedding, or none that can be told.
        Exception: What the encoder raises, if it takes the segments in no shape.
    """
    doubts: list[str] = []
    short = _rows(samples, _ROWS)
    through_forward = _prepares_input(encoder, run, short, doubts)
    called = _through_forward(encoder) if through_forward else encoder
    prepare, outputs, has_drawn = _call_in_any_shape(called, run, short, layout)
    called = replace(called, prepare=prepare)
    time_dim = -1 if layout.time_dim is None else layout.time_dim
    other, others, draws_in = _call_with_another_length(called, run, samples, module, time_dim, has_drawn)
    lengths = short.shape[time_dim], None if other is None else other.shape[time_dim]
    readers = {name: _Reader(len(short), lengths, others.get(name), layout) for name in outputs}
    locations, line, more_doubts = _read(called, outputs, readers, sample_rate)
    if prepare is not None:
        line += f" It is called with segments {tuple(prepare(short).shape[1:])}."
    return Answer(locations, prepare, through_forward, line, (*doubts, *more_doubts), draws_in)


def assume(encoder: Encoder, embeddings: Mapping[str, Tensor]) -> Answer:
    """What is said of an encoder that cannot be asked, from its embeddings ``(n, T, D)`` or ``(n, D)``."""
    dims = {name: Dims(0, 1 if x.ndim == 3 else None) for name, x in embeddings.items()}
    parts = [_described(name, dims[name], x) for name, x in embeddings.items()]
    doubts = tuple(
        _doubt(encoder, name, x)
        for name, x in embeddings.items()
        if encoder.model is None and _is_doubtful(dims[name], x)
    )
    return Answer(None, line=_line(encoder, parts), doubts=doubts)


def _read(
    encoder: Encoder, outputs: Mapping[str, Any], readers: Mapping[str, _Reader], sample_rate: float
) -> tuple[dict[str, Location], str, tuple[str, ...]]:
    """Where the embeddings are, the line that says what they are, and doubts."""
    locations, parts, doubts = {}, [], []
    for name, output in outputs.items():
        of = encoder.name if name == OUTPUT else f"layer {name!r}"
        locations[name] = location = readers[name].locate(output, of)
        x = at(output, location.path)
        parts.append(f"{_described(name, location.dims, x)}{readers[name].frame_rate(location, x, sample_rate)}")
        if encoder.model is None and _is_doubtful(location.dims, x):
            doubts.append(_doubt(encoder, name, x))
    return locations, _line(encoder, parts), tuple(doubts)


def _line(encoder: Encoder, parts: list[str]) -> str:
    kind = "" if encoder.model is None else f" ({type(encoder.model).__name__})"
    line = f"embeds segments with {encoder.name}{kind}: " + "; ".join(parts[:_LAYERS_SHOWN])
    return line + (f"; and {len(parts) - _LAYERS_SHOWN} more layers." if len(parts) > _LAYERS_SHOWN else ".")


def _doubt(encoder: Encoder, name: str, x: Tensor) -> str:
    of = encoder.name if name == OUTPUT else f"layer {name!r}"
    return (
        f"cannot ask {of} which dimension of its output is time, since it gives as many frames for longer "
        f"segments, takes none, or is sharded: {tuple(x.shape)} is read as (B, T, D). If it is (B, D, T), pass "
        "`embed=lambda module, x: module(x).mT`."
    )


def _rows(samples: Tensor, number: int) -> Tensor:
    return samples[torch.arange(number, device=samples.device) % len(samples)]


def _call_in_any_shape(
    encoder: Encoder, run: Run, segments: Tensor, layout: Layout
) -> tuple[Callable[[Tensor], Tensor] | None, dict[str, Any], bool]:
    first: Exception | None = None
    for prepare in _shapes(segments, layout):
        try:
            return prepare, *run(replace(encoder, prepare=prepare), segments, _SEEDS[0])
        except Exception as error:
            first = first or error
    assert first is not None
    raise first


def _shapes(segments: Tensor, layout: Layout) -> list[Callable[[Tensor], Tensor] | None]:
    """In which shapes the segments may be meant: first as they are."""
    if layout.time_dim is not None:
        return [None]
    return [None, add_channel if segments.ndim == 2 else drop_channel]


def add_channel(segments: Tensor) -> Tensor:
    """``(B, T)`` to ``(B, 1, T)``."""
    return segments[:, None] if segments.ndim == 2 else segments


def drop_channel(segments: Tensor) -> Tensor:
    """``(B, 1, T)`` to ``(B, T)``."""
    return segments[:, 0] if segments.ndim == 3 else segments


def _call_with_another_length(
    encoder: Encoder, run: Run, samples: Tensor, module: nn.Module, time_dim: int, has_drawn: bool
) -> tuple[Tensor | None, dict[str, Any], tuple[str, ...]]:
    """Segments of another length and the outputs for them, if the encoder takes any; who drew random numbers."""
    rows = _rows(samples, _ROWS + 1)
    longer = torch.cat([rows, rows.roll(1, 0)], dim=time_dim)
    shorter = rows.narrow(time_dim % rows.ndim, 0, max(1, rows.shape[time_dim] // 2))
    for segments in (longer, shorter):
        try:
            if not has_drawn:
                return segments, run(encoder, segments, _SEEDS[1])[0], ()
            with _watched(module) as names:
                outputs = run(encoder, segments, _SEEDS[1])[0]
            return segments, outputs, tuple(dict.fromkeys(names))
        except Exception:  # a model of a fixed length
            continue
    return None, {}, ()


class _Reader:
    """Reads the output of one layer, with that for segments of another length beside it."""

    def __init__(self, rows: int, lengths: tuple[int, int | None], other: Any, layout: Layout) -> None:
        self._rows = rows
        self._lengths = lengths
        self._other = other
        self._of_waveforms = layout.time_dim is None
        self._waveforms: list[Tensor] = []

    def locate(self, output: Any, of: str) -> Location:
        """Where the embedding is.

        Raises:
            UnknownStructureError: If there is none, or it is ambiguous.
        """
        location = locate(output, self._dims)
        if location is not None:
            return location
        advice = (
            "Pass `embed=`, the dotted name of a submodule or method, or a callable that returns (B, T, D) or "
            "(B, D), or `layers=`, the name of a layer."
        )
        if self._waveforms:
            raise UnknownStructureError(
                f"The output of {of} is as long as the segments of {self._lengths[0]} samples, so it is a "
                f"waveform (or a score a sample) and no embedding: got {describe_output(output)}. {advice}"
            )
        beside = (
            "" if self._other is None else f", and for {self._rows + 1} segments of {self._lengths[1]} samples "
        )
        beside += "" if self._other is None else describe_output(self._other)
        raise UnknownStructureError(
            f"Cannot tell which part of the output of {of} is the embedding: expected one tensor of shape "
            f"(B, T, D), (B, D, T) or (B, D), a list of layers or a ModelOutput, got for {self._rows} segments of "
            f"{self._lengths[0]} samples {describe_output(output)}{beside}. {advice}"
        )

    def _dims(self, path: Path, x: Tensor) -> Dims | None:
        if not x.is_floating_point() or x.numel() == 0 or x.ndim < 2:
            return None
        other = at(self._other, path)
        dims = self._compared(x, other) if isinstance(other, Tensor) else assumed_dims(self._rows)(path, x)
        if dims is not None and self._of_waveforms and self._is_waveform(x, dims):
            self._waveforms.append(x)
            return None
        return dims

    def _compared(self, x: Tensor, other: Tensor) -> Dims | None:
        if other.ndim != x.ndim:
            return None
        sizes = list(enumerate(zip(x.shape, other.shape, strict=True)))
        of_rows = [dim for dim, size in sizes if size == (self._rows, self._rows + 1)]
        if not of_rows:
            return None
        batch = of_rows[0]
        assert self._lengths[1] is not None
        longer = self._lengths[1] > self._lengths[0]
        others = [dim for dim, (a, b) in sizes if dim != batch and a != b]
        if not others:
            return Dims(batch, 1 if x.ndim == 3 else None) if batch == 0 and x.ndim <= 3 else None
        if len(others) > 1 or (x.shape[others[0]] < other.shape[others[0]]) != longer:
            return None
        if x.ndim == 2:
            return Dims(batch, None, grows=True) if batch == 0 else None
        return Dims(batch, others[0], grows=True)

    def _is_waveform(self, x: Tensor, dims: Dims) -> bool:
        length = self._lengths[0]
        if x.ndim == 2:
            return dims.grows and x.shape[1] >= length / 2
        sizes = [size for dim, size in enumerate(x.shape) if dim != dims.batch]
        longest = x.shape[dims.time] if dims.grows and dims.time is not None else max(sizes)
        return longest >= length / 4 and x.numel() / (x.shape[dims.batch] * longest) <= _MOST_WAVEFORM_FEATURES

    def frame_rate(self, location: Location, x: Tensor, sample_rate: float) -> str:
        """How many frames a second there are, as text; nothing if it was not seen."""
        dims, other = location.dims, at(self._other, location.path)
        if dims.time is None or not dims.grows or self._lengths[1] is None:
            return ""
        frames = other.shape[dims.time] - x.shape[dims.time]
        return f", {frames * sample_rate / (self._lengths[1] - self._lengths[0]):.4g} a second"


def _described(name: str, dims: Dims, x: Tensor) -> str:
    frames = dims.frames(x)
    shape = tuple("B" if dim == dims.batch else size for dim, size in enumerate(x.shape))
    text = f"{name} {shape}".replace("'", "")
    if frames.ndim == 2:
        return f"{text}, one vector of {frames.shape[1]} features"
    assumed = "" if dims.grows else " (assumed)"
    return f"{text}, {frames.shape[1]} frames of {frames.shape[2]} features{assumed}"


def _is_doubtful(dims: Dims, x: Tensor) -> bool:
    return dims.time == 1 and not dims.grows and x.shape[1] > x.shape[2]


# ---- a model inside of a module whose `forward` prepares its input


def _through_forward(encoder: Encoder) -> Encoder:
    assert encoder.model is not None
    assert encoder.forward is not None
    return replace(
        encoder,
        name=f"{encoder.name} as `forward` calls it",
        call=encoder.forward,
        layers=encoder.layers or ((OUTPUT, encoder.model),),
        squeeze_mono=False,
    )


def _prepares_input(encoder: Encoder, run: Run, segments: Tensor, doubts: list[str]) -> bool:
    """Whether ``forward`` gives the model something else than the segments."""
    if encoder.model is None or encoder.forward is None:
        return False
    heard: list[Tensor] = []

    def listen(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = next((x for _, x in tensors_in([*args, *kwargs.values()]) if x.is_floating_point()), None)
        if given is not None:
            heard.append(given.detach().clone())

    handle = encoder.model.register_forward_pre_hook(listen, with_kwargs=True)
    forward = replace(encoder, name="`forward`", call=encoder.forward, layers=(), squeeze_mono=False)
    error: Exception | None = None
    try:
        run(forward, segments, _SEEDS[0])
    except Exception as raised:
        error = raised
    finally:
        handle.remove()
    if not heard or any(_same(x, segments) for x in heard):
        return False
    if error is None and len(heard) == 1:
        return True
    why = "calls it more than once" if error is None else f"cannot be called with segments alone ({error})"
    doubts.append(
        f"calls {encoder.name} with segments as they are, while `forward` gives it something else "
        f"({_summary(heard[0])} in place of {_summary(segments)}) but {why}. If the model needs that preparation, "
        "pass `embed=`, a function of the module and the segments that does it."
    )
    return False


def _same(heard: Tensor, segments: Tensor) -> bool:
    heard, segments = heard.squeeze(), segments.squeeze()
    return heard.shape == segments.shape and torch.allclose(heard.float(), segments.float(), rtol=1e-2, atol=1e-6)


def _summary(x: Tensor) -> str:
    return f"shape {tuple(x.shape)}, standard deviation {x.float().std().item():.3g}"


# ---- random numbers


@contextmanager
def _watched(module: nn.Module) -> Iterator[list[str]]:
    """The names of the innermost submodules that draw random numbers in the body."""
    found: list[str] = []
    open_calls: list[tuple[Callable[[], bool], int]] = []
    generators = global_generators(cuda_devices(module))

    def before(called: nn.Module, args: Any) -> None:
        open_calls.append((drawn_from(generators), len(found)))

    def after(name: str) -> Callable[..., None]:
        def hook(called: nn.Module, args: Any, output: Any) -> None:
            has_drawn, known = open_calls.pop()
            if len(found) == known and has_drawn():
                found.append(name)

        return hook

    handles = []
    for name, submodule in module.named_modules():
        handles.append(submodule.register_forward_pre_hook(before))
        handles.append(submodule.register_forward_hook(after(name or "forward")))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
