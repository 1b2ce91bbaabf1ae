"""A model and segments -> embeddings: how the model is called, what its output means, and pooling over time."""

from __future__ import annotations

import difflib
import fnmatch
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lightning_mi.inputs.batches import UnknownStructureError

Access = Callable[[Callable[[Tensor], Any], Tensor], Any]
Pooling = Literal["mean", "boundary"]
POOLINGS: tuple[Pooling, ...] = ("mean", "boundary")
OUTPUT = "output"  # the layer name of the encoder's own output

_OUTPUT_NAMES = ("last_hidden_state", "hidden_states", "features", "embeddings", "representations", "z", "x")
_NEAREST_NAMES_SHOWN = 5
# Attributes under which sharding, activation checkpointing and torch.compile hold the module that they wrap.
_WRAPPERS = ("_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_orig_mod")


@dataclass(frozen=True)
class Encoder:
    """How a module is asked for embeddings: found by :func:`find_encoder`.

    Attributes:
        name: For messages: what is called.
        call: ``(B, T)`` waveforms (``(B, 1, T)`` where ``keeps_channel`` and the batch had it), or feature
            sequences as the batch has them -> output.
        layers: Names and submodules whose outputs are wanted; empty for the encoder's own output.
        keeps_channel: Whether the waveforms go in with the channel dimension that the batch had.
    """

    name: str
    call: Callable[[Tensor], Any]
    layers: tuple[tuple[str, nn.Module], ...] = ()
    keeps_channel: bool = True

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the embeddings that :meth:`__call__` returns, in this order."""
        return tuple(name for name, _ in self.layers) or (OUTPUT,)

    def __call__(self, waveforms: Tensor, access: Access | None = None) -> dict[str, Tensor]:
        """Encode ``(B, T)`` or ``(B, 1, T)`` waveforms, or feature sequences as the batch has them.

        Args:
            waveforms: The segments.
            access: Calls the function that it is given with the segments that it is given, in the context that
                the model is to be run in. ``None``: plainly.

        Returns:
            For each layer name a tensor ``(B, T', D)`` or ``(B, D)``.

        Raises:
            UnknownStructureError: (a ValueError) if the call fails, an output has no known structure, or a
                layer is not run.
        """
        return self.frames(self.run(waveforms, access), len(waveforms))

    def run(self, waveforms: Tensor, access: Access | None = None) -> dict[str, Any]:
        """As :meth:`__call__`, and the outputs as they come, whatever they are."""
        if waveforms.ndim == 3 and not self.keeps_channel:
            waveforms = waveforms[:, 0]
        captured: dict[str, Any] = {}
        handles = [layer.register_forward_hook(_capture(captured, name)) for name, layer in self.layers]
        try:
            output = self.call(waveforms) if access is None else access(self.call, waveforms)
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

    def frames(self, outputs: dict[str, Any], batch_size: int) -> dict[str, Tensor]:
        """The embeddings ``(B, T', D)`` or ``(B, D)`` in what :meth:`run` returned."""
        return {name: self._frames(name, output, batch_size) for name, output in outputs.items()}

    def _frames(self, name: str, output: Any, batch_size: int) -> Tensor:
        frames = frames_in_output(output, batch_size)
        if frames is None:
            of = self.name if name == OUTPUT else f"layer {name!r}"
            raise UnknownStructureError(
                f"Cannot tell which part of the output of {of} is the embedding: expected one tensor of shape "
                f"(B, T, D) or (B, D) with B = {batch_size}, a list of layers or a ModelOutput, got "
                f"{_describe(output)}. Pass `embed=`, the dotted name of a submodule or method, or a callable "
                "that returns (B, T, D) or (B, D)."
            )
        return frames


def find_encoder(
    module: nn.Module,
    embed: str | Callable[..., Any] | None = None,
    layers: str | Sequence[str] | None = None,
    of_features: bool = False,
) -> Encoder:
    """Decide how ``module`` is asked for embeddings of waveforms, or of feature sequences.

    Args:
        module: The LightningModule.
        embed: A dotted name of a submodule or method of ``module``; a callable of the waveforms, or of the
            module and the waveforms. ``None``: the outermost torchaudio ``Wav2Vec2Model`` (that of a
            ``HuBERTPretrainModel``, too) or transformers speech model inside of ``module``, the first one
            that is being trained where there are several; else ``module.forward``.
        layers: Names or globs of submodules of ``module`` whose outputs are wanted in place of the encoder's (a
            ``*`` stands for one part of a dotted name); ``"all"`` for the blocks of the encoder.
        of_features: Whether feature sequences are to be encoded. The known models are then those of transformers
            that take ``input_features``.

    Returns:
        The encoder.

    Raises:
        TypeError: If ``embed`` or ``layers`` is of another type, or a callable takes other arguments.
        ValueError: If a name does not exist (the message lists the nearest), or if there is no ``embed``, no
            known model and no ``forward``.

    Example:
        >>> import torch
        >>> module = torch.nn.Sequential(torch.nn.Linear(400, 8))
        >>> encoder = find_encoder(module, embed="0")
        >>> {name: tuple(z.shape) for name, z in encoder(torch.zeros(2, 400)).items()}
        {'output': (2, 8)}
    """
    encoder, root = _find_call(module, embed, of_features)
    if layers is None:
        return encoder
    return Encoder(encoder.name, encoder.call, _find_layers(module, root, layers), encoder.keeps_channel)


def pool(frames: Tensor, how: Pooling) -> Tensor:
    """Pool segments over time: ``(n, 1 + G, T, D)`` or ``(n, 1 + G, D)`` -> ``(n, 1 + G, D)``, as float32.

    Args:
        frames: The anchor and its G partners.
        how: ``"mean"``, or ``"boundary"``: the anchor's last frame and the partners' first.

    Example:
        >>> import torch
        >>> frames = torch.arange(6.0).reshape(1, 2, 3, 1)
        >>> pool(frames, "mean").flatten().tolist(), pool(frames, "boundary").flatten().tolist()
        ([1.0, 4.0], [2.0, 3.0])
    """
    if frames.ndim == 3:
        return frames.float()
    if how == "mean":
        return frames.float().mean(dim=2)
    return torch.cat([frames[:, :1, -1], frames[:, 1:, 0]], dim=1).float()


def select_frames(frames: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """One frame of each segment: of ``(n, 1 + G, T, D)``, at the shares ``at`` ``(n, 1 + G)`` in [0, 1) of T.

    Returns:
        The frames ``(n, 1 + G, D)`` as float32, and where the middle of each is, as a share of the segment's
        length, ``(n, 1 + G)`` float64 on the host. Embeddings ``(n, 1 + G, D)`` are returned as they are, with
        their middle.

    Example:
        >>> import torch
        >>> z, middle = select_frames(torch.arange(4.0).reshape(1, 1, 4, 1), torch.tensor([[0.6]]))
        >>> z.item(), middle.item()
        (2.0, 0.625)
    """
    if frames.ndim == 3:
        return frames.float(), torch.full(at.shape, 0.5, dtype=torch.float64)
    index = (at * frames.shape[2]).long()
    chosen = frames.gather(2, index.to(frames.device)[:, :, None, None].expand(-1, -1, 1, frames.shape[3]))
    return chosen[:, :, 0].float(), (index.double() + 0.5) / frames.shape[2]


def frames_in_output(output: Any, batch_size: int) -> Tensor | None:
    """The embedding in a model's output, ``(B, T, D)`` or ``(B, D)``; ``None`` where it cannot be told.

    Understood are a tensor, a list or tuple of layers (the last is taken), these beside lengths or other
    tensors of fewer dimensions, and mappings, namedtuples and ModelOutputs.

    Example:
        >>> import torch
        >>> layers, lengths = [torch.zeros(2, 5, 4), torch.ones(2, 5, 4)], torch.tensor([5, 5])
        >>> frames_in_output((layers, lengths), batch_size=2).mean().item()
        1.0
    """
    if isinstance(output, Tensor):
        fits = output.ndim in (2, 3) and output.shape[0] == batch_size and output.numel() > 0
        return output if fits and output.is_floating_point() else None
    if hasattr(output, "_asdict"):
        output = output._asdict()
    if isinstance(output, Mapping):
        for name in _OUTPUT_NAMES:
            if output.get(name) is not None:
                return frames_in_output(output[name], batch_size)
        output = list(output.values())
    if not isinstance(output, (list, tuple)):
        return None
    for part in output:
        if isinstance(part, (list, tuple)) and (frames := frames_in_output(part, batch_size)) is not None:
            return frames
    found = [frames for part in output if (frames := frames_in_output(part, batch_size)) is not None]
    most = max((frames.ndim for frames in found), default=0)
    found = [frames for frames in found if frames.ndim == most]
    # Equal shapes are layers; different ones could be anything, logits beside features for one.
    return found[-1] if found and all(frames.shape == found[0].shape for frames in found) else None


def _capture(captured: dict[str, Any], name: str) -> Callable[..., None]:
    def hook(module: nn.Module, args: Any, output: Any) -> None:
        captured[name] = output

    return hook


def _find_call(
    module: nn.Module, embed: str | Callable[..., Any] | None, of_features: bool
) -> tuple[Encoder, nn.Module]:
    """The encoder, and the submodule in which its blocks are looked for."""
    if isinstance(embed, str):
        target = _resolve(module, embed)
        if not callable(target):
            raise TypeError(
                f"`embed` must name a submodule or a method, got {embed!r}, a {type(target).__name__}."
            )
        return Encoder(f"`{embed}`", target), target if isinstance(target, nn.Module) else module
    if embed is not None:
        return Encoder("`embed`", _bind(module, embed)), embed if isinstance(embed, nn.Module) else module
    known = list(_known_models(module, of_features))
    trained = [found for found in known if any(p.requires_grad for p in found[1].parameters())]
    for name, model, call, layers in (*trained, *known):
        return Encoder(f"`{name or 'the module itself'}`", call, layers, keeps_channel=of_features), model
    if not _has_forward(module):
        what, models = "waveforms", "no torchaudio Wav2Vec2Model, no transformers speech model"
        if of_features:
            what, models = "feature sequences", "no transformers model of `input_features`"
        raise ValueError(
            f"Cannot tell how to embed {what}: {type(module).__name__} holds {models}, and has no `forward`. Pass "
            f"`embed=`, the dotted name of a submodule or method that takes {what}, or a callable."
        )
    return Encoder("`forward`", module), module


_Known = tuple[str, nn.Module, Callable[[Tensor], Any], tuple[tuple[str, nn.Module], ...]]


def _known_models(module: nn.Module, of_features: bool) -> Iterator[_Known]:
    """Outermost models of known libraries, told by the names of their classes: neither is imported."""
    inside: set[nn.Module] = set()
    for name, (wrapper, model) in _named_submodules(module).items():
        if model in inside:
            continue
        classes = {(base.__module__.partition(".")[0], base.__name__) for base in type(model).__mro__}
        if ("torchaudio", "Wav2Vec2Model") in classes and not of_features:
            inside.update(model.modules())
            # Not the output itself, which may be the logits of a fine-tuned head; and through `forward`, to
            # which sharding is attached, hence not by `extract_features`.
            yield name, wrapper, wrapper, ((OUTPUT, _last_block(model)),)
        elif ("transformers", "PreTrainedModel") in classes and getattr(model, "main_input_name", None) == (
            "input_features" if of_features else "input_values"
        ):
            inside.update(model.modules())
            # Without its head: what a pre-training head returns is not the representation.
            base: Any = model.base_model
            if of_features and getattr(model.config, "is_encoder_decoder", False):
                base = model.get_encoder()  # type: ignore[operator]
            yield name, wrapper, wrapper if base is model else base, ()


def _named_submodules(module: nn.Module) -> dict[str, tuple[nn.Module, nn.Module]]:
    """``module.named_modules()`` under the names that they had before something was wrapped around them: the
    outermost wrapper, which is to be called, and what it wraps; the same where there is none."""
    named: dict[str, tuple[nn.Module, nn.Module]] = {}
    for name, submodule in module.named_modules():
        name = ".".join(part for part in name.split(".") if part not in _WRAPPERS)
        named[name] = (named.get(name, (submodule,))[0], submodule)
    return named


def _last_block(model: Any) -> nn.Module:
    return model.encoder.transformer.layers[-1]


def _has_forward(module: nn.Module) -> bool:
    defined_in = next(base for base in type(module).__mro__ if "forward" in vars(base))
    return defined_in.__module__.partition(".")[0] not in ("lightning", "pytorch_lightning") and (
        defined_in is not nn.Module
    )


def _bind(module: nn.Module, embed: Callable[..., Any]) -> Callable[[Tensor], Any]:
    if not callable(embed):
        raise TypeError(f"`embed` must be a dotted name or a callable, got {embed!r}.")
    if isinstance(embed, nn.Module):
        return embed
    try:
        parameters = inspect.signature(embed).parameters.values()
    except ValueError:  # built in C: no signature
        return embed
    required = [
        p for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    takes_any = any(p.kind == p.VAR_POSITIONAL for p in parameters)
    if len(required) == 2:
        return lambda waveforms: embed(module, waveforms)
    if len(required) == 1 or (not required and (takes_any or parameters)):
        return embed
    raise TypeError(
        "`embed` must be a callable of the waveforms, or of the module and the waveforms, got one with "
        f"{len(required)} required arguments: {embed!r}."
    )


def _resolve(module: nn.Module, dotted: str) -> Any:
    target: Any = module
    for part in dotted.split("."):
        if not hasattr(target, part):
            names = [name for name in _named_submodules(module) if name]
            names += [name for name in dir(type(module)) if name in vars(type(module)) and name[0] != "_"]
            raise ValueError(
                f"`embed` must name a submodule or a method of {type(module).__name__}, got {dotted!r}."
                f"{_nearest(dotted, names)}"
            )
        target = getattr(target, part)
    return target


def _find_layers(
    module: nn.Module, root: nn.Module, layers: str | Sequence[str]
) -> tuple[tuple[str, nn.Module], ...]:
    named = {name: wrapper for name, (wrapper, _) in _named_submodules(module).items() if name}
    if layers == "all":
        stacks = [stack for stack in root.modules() if isinstance(stack, (nn.ModuleList, nn.Sequential))]
        if not stacks:
            raise ValueError(
                f"`layers='all'` finds no list of blocks in {type(root).__name__}. Name the layers instead."
                f"{_nearest('layers', named)}"
            )
        # Not by parameters: where they are sharded, processes hold different numbers of them.
        blocks = set(max(stacks, key=lambda stack: sum(1 for _ in stack.modules())))
        return tuple((name, submodule) for name, submodule in named.items() if submodule in blocks)
    patterns = [layers] if isinstance(layers, str) else list(layers)
    chosen: dict[str, nn.Module] = {}
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise TypeError(f"`layers` must hold names or globs of submodules, got {pattern!r}.")
        names = [name for name in named if _matches(name, pattern)]
        if not names:
            raise ValueError(
                f"`layers` must name submodules of {type(module).__name__}, got {pattern!r}, which matches "
                f"none.{_nearest(pattern, named)}"
            )
        chosen.update((name, named[name]) for name in names)
    if not chosen:
        raise ValueError("`layers` must name at least one submodule, got an empty list. Leave it at None.")
    return tuple(chosen.items())


def _matches(name: str, pattern: str) -> bool:
    """Whether each part of a dotted name fits the glob in its place: ``blocks.*`` are blocks, not their parts."""
    parts, globs = name.split("."), pattern.split(".")
    return len(parts) == len(globs) and all(map(fnmatch.fnmatchcase, parts, globs))


def _nearest(name: str, names: Sequence[str] | Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, list(names), n=_NEAREST_NAMES_SHOWN, cutoff=0.3)
    near = near or list(names)[:_NEAREST_NAMES_SHOWN]
    return f" The nearest names are: {', '.join(near)}." if near else ""


def _describe(output: Any) -> str:
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)}, {output.dtype}"
    if isinstance(output, Mapping):
        return "{" + ", ".join(f"{key!r}: {_describe(value)}" for key, value in output.items()) + "}"
    if isinstance(output, (list, tuple)):
        return f"a {type(output).__name__} of (" + ", ".join(_describe(part) for part in output) + ")"
    return f"a {type(output).__name__}"
