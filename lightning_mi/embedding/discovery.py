"""Discovery of the encoder: which part of a LightningModule is called, and which of its layers are embedded."""

from __future__ import annotations

import difflib
import fnmatch
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lightning_mi.embedding.encoder import Encoder
from lightning_mi.embedding.lightning_packages import overrides
from lightning_mi.embedding.outputs import OUTPUT
from lightning_mi.embedding.signature import adapted, describe_switches

_NEAREST_NAMES_SHOWN = 5
# Attributes under which sharding, activation checkpointing and torch.compile hold the module that they wrap.
_WRAPPERS = ("_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_orig_mod")


def find_encoder(
    module: nn.Module,
    embed: str | Callable[..., Any] | None = None,
    layers: str | Sequence[str] | None = None,
    time_dim: int | None = None,
) -> Encoder:
    """Find how ``module`` is called for embeddings of waveforms, or of feature sequences.

    Args:
        module: The LightningModule.
        embed: A dotted name of a submodule or method of ``module``; a callable of the waveforms, or of the
            module and the waveforms. ``None``: the outermost torchaudio ``Wav2Vec2Model`` (that of a
            ``HuBERTPretrainModel``, too), transformers speech model or NeMo model inside of ``module``, the first
            one that is being trained if there are several; else ``module.forward``. If all of them are frozen
            and other parameters are trained, ``module.forward`` comes first.
        layers: Names or globs of submodules of ``module`` whose outputs are wanted in place of the encoder's (a
            ``*`` stands for one part of a dotted name); ``"all"`` for the blocks of the encoder.
        time_dim: For feature sequences, which of their dimensions is time. The known models are then those of
            transformers that take ``input_features``. ``None``: waveforms.

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
    encoder, root = _find_call(module, embed, time_dim)
    return encoder if layers is None else replace(encoder, layers=_find_layers(module, root, layers))


def _find_call(
    module: nn.Module, embed: str | Callable[..., Any] | None, time_dim: int | None
) -> tuple[Encoder, nn.Module]:
    """The encoder, and the submodule in which its blocks are looked for."""
    of_features, time = time_dim is not None, -1 if time_dim is None else time_dim
    if isinstance(embed, str):
        target = _get_submodule(module, embed)
        if not callable(target):
            raise TypeError(
                f"`embed` must name a submodule or a method, got {embed!r}, a {type(target).__name__}."
            )
        called = target if isinstance(target, nn.Module) else None
        return _adapted_encoder(f"`{embed}`", target, time), module if called is None else called
    if isinstance(embed, nn.Module):
        return _adapted_encoder("`embed`", embed, time), embed
    if embed is not None:
        return Encoder("`embed`", _adapt_callable(module, embed)), module
    known = list(_known_models(module, of_features))
    trained = [found for found in known if any(p.requires_grad for p in found[1].parameters())]
    if not trained and overrides(module, "forward") and any(p.requires_grad for p in module.parameters()):
        known = []  # a frozen teacher, front end or tokeniser beside what is trained
    chosen = sorted(trained or known, key=lambda found: _is_teacher(found[0]))  # stable
    for name, model, call, layers in chosen[:1]:
        called = call if isinstance(call, nn.Module) else None
        forward = None
        if called is not None and called is not module and overrides(module, "forward"):
            forward = adapted(module, time)
        encoder = Encoder(f"`{name or 'the module itself'}`", call, layers, squeeze_mono=not of_features)
        rivals = tuple(f"`{other[0]}`" for other in chosen[1:]) if trained else ()
        own = model if called is None else called
        return replace(encoder, target=called, model=own, forward=forward, rivals=rivals), model
    if not overrides(module, "forward"):
        what, models = "waveforms", "no torchaudio Wav2Vec2Model, no transformers speech model, no NeMo model"
        if of_features:
            what, models = "feature sequences", "no transformers model of `input_features`"
        raise ValueError(
            f"Cannot tell how to embed {what}: {type(module).__name__} holds {models}, and has no `forward`. Pass "
            f"`embed=`, the dotted name of a submodule or method that takes {what}, or a callable."
        )
    return _adapted_encoder("`forward`", module, time), module


def _adapted_encoder(name: str, target: Any, time_dim: int) -> Encoder:
    """An encoder that calls a module or a method of the user's."""
    encoder = Encoder(f"{name}{describe_switches(target)}", adapted(target, time_dim))
    described = describe_switches(target, unmasked=True)
    unmasked = None
    if described != describe_switches(target):
        unmasked = adapted(target, time_dim, unmasked=True), f"{name}{described}"
    return replace(encoder, target=target if isinstance(target, nn.Module) else None, unmasked=unmasked)


def _is_teacher(name: str) -> bool:
    """Whether a model's name says that it follows another one, or is not trained."""
    return any(part in name.lower() for part in ("teacher", "ema", "target", "momentum", "frozen", "reference"))


_Known = tuple[str, nn.Module, Callable[[Tensor], Any], tuple[tuple[str, nn.Module], ...]]


def _known_models(module: nn.Module, of_features: bool) -> Iterator[_Known]:
    """Outermost models of known libraries, recognised by the names of their classes, so that none is imported."""
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
        elif ("nemo", "ModelPT") in classes and not of_features and _has_front_end(model):
            inside.update(model.modules())
            yield name, wrapper, partial(_encode_with_nemo, model), ()


def _has_front_end(model: Any) -> bool:
    return isinstance(getattr(model, "preprocessor", None), nn.Module) and hasattr(model, "encoder")


def _encode_with_nemo(model: Any, waveforms: Tensor) -> Tensor:
    """``(B, T, D)``, without the masks that a model in pre-training lays over its input in evaluation, too."""
    lengths = torch.full((len(waveforms),), waveforms.shape[-1], device=waveforms.device)
    features, lengths = model.preprocessor(input_signal=waveforms, length=lengths)
    frames, lengths = model.encoder(audio_signal=features, length=lengths)
    return frames[..., : int(lengths.max())].mT  # the features were padded to a multiple of 16 frames


def _named_submodules(module: nn.Module) -> dict[str, tuple[nn.Module, nn.Module]]:
    """``module.named_modules()`` under the names that they had before something was wrapped around them: the
    outermost wrapper, which is to be called, and what it wraps; the same if there is none."""
    named: dict[str, tuple[nn.Module, nn.Module]] = {}
    for name, submodule in module.named_modules():
        name = ".".join(part for part in name.split(".") if part not in _WRAPPERS)
        named[name] = (named.get(name, (submodule,))[0], submodule)
    return named


def _last_block(model: Any) -> nn.Module:
    return model.encoder.transformer.layers[-1]


def _adapt_callable(module: nn.Module, embed: Callable[..., Any]) -> Callable[[Tensor], Any]:
    if not callable(embed):
        raise TypeError(f"`embed` must be a dotted name or a callable, got {embed!r}.")
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


def _get_submodule(module: nn.Module, dotted: str) -> Any:
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
        # Not by parameters: if they are sharded, processes hold different numbers of them.
        blocks = set(max(stacks, key=lambda stack: sum(1 for _ in stack.modules())))
        return tuple((name, submodule) for name, submodule in named.items() if submodule in blocks)
    if not isinstance(layers, (str, Sequence)):
        raise TypeError(f"`layers` must be a name or a list of names of submodules, got {layers!r}.")
    patterns = [layers] if isinstance(layers, str) else list(layers)
    chosen: dict[str, nn.Module] = {}
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise TypeError(f"`layers` must hold names or globs of submodules, got {pattern!r}.")
        # A name may hold the signs of a glob.
        names = [pattern] if pattern in named else [name for name in named if _matches(name, pattern)]
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
