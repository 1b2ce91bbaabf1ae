"""The trial call: what a model says of itself when it is called with a few segments of two lengths.

The dimension of an output that follows the number of segments holds the rows; the one that follows their length is
time. So channel-first outputs, ``(T, B, D)`` and layers of odd shapes are read right without a word from the user,
and what is as long as the segment itself is a waveform and no embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
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
    is_plain,
    locate,
    tensors_in,
)
from lightning_mi.embedding.randomness import drawn_from, global_generators
from lightning_mi.inputs.layout import Layout
from lightning_mi.inputs.structure import UnknownStructureError

Run = Callable[[Encoder, Tensor, int], tuple[dict[str, Any], bool]]

_ROWS, _OTHER_ROWS = 4, 6  # of the first call and of the second; even, for models that take views in pairs
_SEEDS = (0x747269616C, 0x616761696E)
_MOST_WAVEFORM_FEATURES = 16  # sources, channels; an encoder has more
_LAYERS_SHOWN = 3
_MOST_DIFFERENCE = 0.05  # of an embedding in a batch and on its own, relative; rounding in bfloat16 is below


@dataclass(frozen=True)
class Prepare:
    """What segments go through before the call.

    Attributes:
        ndim: 2 for waveforms ``(B, T)``, 3 for ``(B, 1, T)``; ``None``: as they are.
        dtype: Their type; ``None``: as it is.

    Example:
        >>> Prepare(ndim=3)(torch.zeros(2, 400)).shape
        torch.Size([2, 1, 400])
    """

    ndim: int | None = None
    dtype: torch.dtype | None = None

    def __call__(self, segments: Tensor) -> Tensor:
        """The segments as the encoder takes them."""
        if self.ndim == 3 and segments.ndim == 2:
            segments = segments[:, None]
        elif self.ndim == 2 and segments.ndim == 3:
            segments = segments[:, 0]
        return segments if self.dtype is None else segments.to(self.dtype)


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
    prepare: Prepare = Prepare()
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
            encoder = _through_forward(encoder)
        if self.unmask:
            encoder = unmasked(encoder)
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
    doubts: list[str] = []
    short = _rows(samples, _ROWS)
    through_forward = _prepares_input(encoder, run, short, doubts)
    called = _through_forward(encoder) if through_forward else encoder
    shapes = _shapes(short, module, layout, as_in_step)
    prepare, outputs, has_drawn = _call_in_any_shape(called, run, short, shapes)
    unmask = has_drawn and called.unmasked is not None
    if unmask:
        called = unmasked(called)
        prepare, outputs, has_drawn = _call_in_any_shape(called, run, short, shapes)
    called = replace(called, prepare=prepare)
    doubts += _doubts_of_choice(called)
    time_dim = -1 if layout.time_dim is None else layout.time_dim
    other, others, draws_in = _call_with_another_length(called, run, samples, module, time_dim, has_drawn)
    lengths = short.shape[time_dim], None if other is None else other.shape[time_dim]
    locations, parts = {}, []
    for name, output in outputs.items():
        reader = _Reader(_ROWS, lengths, others.get(name), layout)
        locations[name] = location = reader.locate(output, _of(called, name))
        x = at(output, location.path)
        rate = reader.frame_rate(location, x, sample_rate)
        parts.append(f"{_described(name + location.key, location.dims, x)}{rate}")
        doubts += _doubts(called, name, location.dims, x)
    line = _line(called, parts)
    if prepare != Prepare():
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


def _call_in_any_shape(
    encoder: Encoder, run: Run, segments: Tensor, shapes: list[Prepare]
) -> tuple[Prepare, dict[str, Any], bool]:
    first: Exception | None = None
    for prepare in shapes:
        try:
            return prepare, *run(replace(encoder, prepare=prepare), segments, _SEEDS[0])
        except Exception as error:
            first = first or error
    assert first is not None
    raise first


def _shapes(segments: Tensor, module: nn.Module, layout: Layout, as_in_step: int | None) -> list[Prepare]:
    """In which shapes and types the segments may be meant: first as the step calls the model, then as they are."""
    ndims: list[int | None] = [None]
    if layout.time_dim is None:
        ndims.append(3 if segments.ndim == 2 else 2)
        if as_in_step == ndims[1]:
            ndims.reverse()
    of_module = next((p.dtype for p in module.parameters() if p.is_floating_point()), segments.dtype)
    dtypes = [None] if of_module == segments.dtype else [None, of_module]
    return [Prepare(ndim, dtype) for dtype in dtypes for ndim in ndims]


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
            return location._replace(lengths=self._lengths_of_frames(output, location))
        advice = (
            "Pass `embed=`, the dotted name of a submodule or method, or a callable that returns (B, T, D) or "
            "(B, D), or `layers=`, the name of a layer."
        )
        if self._waveforms:
            raise UnknownStructureError(
                f"The output of {of} is as long as the segments of {self._lengths[0]} samples, so it is a "
                f"waveform (or a score a sample) and no embedding: got {describe_output(output)}. {advice}"
            )
        beside = "" if self._other is None else f", and for {_OTHER_ROWS} segments of {self._lengths[1]} samples "
        beside += "" if self._other is None else describe_output(self._other)
        raise UnknownStructureError(
            f"Cannot tell which part of the output of {of} is the embedding: expected one tensor of shape "
            f"(B, T, D), (B, D, T) or (B, D), a list of layers or a ModelOutput, got for {self._rows} segments of "
            f"{self._lengths[0]} samples {describe_output(output)}{beside}. {advice}"
        )

    def _dims(self, path: Path, x: Tensor) -> Dims | None:
        if not is_plain(x) or not x.is_floating_point() or x.numel() == 0 or x.ndim < 2:
            return None
        other = at(self._other, path)
        dims = self._compared(x, other) if is_plain(other) else assumed_dims(self._rows)(path, x)
        if dims is not None and self._of_waveforms and self._is_waveform(x, dims):
            self._waveforms.append(x)
            return None
        return dims

    def _compared(self, x: Tensor, other: Tensor) -> Dims | None:
        if other.ndim != x.ndim:
            return None
        sizes = list(enumerate(zip(x.shape, other.shape, strict=True)))
        of_rows = [dim for dim, size in sizes if size == (self._rows, _OTHER_ROWS)]
        if not of_rows:
            return None
        batch = of_rows[0]
        assert self._lengths[1] is not None
        longer = self._lengths[1] > self._lengths[0]
        others = [dim for dim, (a, b) in sizes if dim != batch and a != b]
        if not others:
            has_time = x.ndim == 3 and 1 not in x.shape[1:]
            return Dims(batch, 1 if has_time else None) if batch == 0 and x.ndim <= 3 else None
        if len(others) > 1 or (x.shape[others[0]] < other.shape[others[0]]) != longer:
            return None
        if x.ndim == 2:
            return Dims(batch, None, grows=True) if batch == 0 else None
        return Dims(batch, others[0], grows=True)

    def _is_waveform(self, x: Tensor, dims: Dims) -> bool:
        length = self._lengths[0]
        if dims.grows:
            if dims.time is None:
                return x.shape[1] >= length / 2
            time = x.shape[dims.time]
            return time >= length / 4 and x.numel() / (x.shape[dims.batch] * time) <= _MOST_WAVEFORM_FEATURES
        if self._lengths[1] is not None or dims.time is None:
            return False
        longest = max(x.shape[1:])
        return longest >= 0.9 * length and x.numel() / (len(x) * longest) <= _MOST_WAVEFORM_FEATURES

    def _lengths_of_frames(self, output: Any, location: Location) -> Path | None:
        """Where the output says how many of its frames are no padding: numbers that grow with the segments."""
        time = location.dims.time
        if time is None or not location.dims.grows:
            return None
        num_frames, other_num_frames = (
            at(output, location.path).shape[time],
            at(self._other, location.path).shape[time],
        )
        for path, x in tensors_in(output):
            other = at(self._other, path)
            if is_plain(x) and is_plain(other) and _is_one_number(x, self._rows):
                n, m = int(x[0]), int(other.flatten()[0])
                grows = (n < m) == (num_frames < other_num_frames) and n != m
                if grows and num_frames / 2 < n <= num_frames and m <= other_num_frames:
                    return path
        return None

    def frame_rate(self, location: Location, x: Tensor, sample_rate: float) -> str:
        """How many frames a second there are, as text; nothing if it was not seen."""
        dims, other = location.dims, at(self._other, location.path)
        if dims.time is None or not dims.grows or self._lengths[1] is None:
            return ""
        frames = other.shape[dims.time] - x.shape[dims.time]
        return f", {frames * sample_rate / (self._lengths[1] - self._lengths[0]):.4g} a second"


def _is_one_number(x: Tensor, rows: int) -> bool:
    """Whether it is an integer for each row, the same for all."""
    is_integer = not x.is_floating_point() and not x.is_complex() and x.dtype != torch.bool
    return is_integer and x.shape == (rows,) and bool((x == x[0]).all())


def _described(name: str, dims: Dims, x: Tensor) -> str:
    frames = dims.frames(x)
    sizes = ["B" if dim == dims.batch else str(size) for dim, size in enumerate(x.shape)]
    text = f"{name} ({', '.join(sizes)})"
    if frames.ndim == 2:
        return f"{text}, one vector of {frames.shape[1]} features"
    assumed = "" if dims.grows else " (assumed)"
    return f"{text}, {frames.shape[1]} frames of {frames.shape[2]} features{assumed}"


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


def unmasked(encoder: Encoder) -> Encoder:
    """The encoder, with masks off that its signature asks for by default, if there are any."""
    if encoder.unmasked is None:
        return encoder
    call, name = encoder.unmasked
    return replace(encoder, call=call, name=name)


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
