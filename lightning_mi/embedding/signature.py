"""How a model's forward is called with segments alone: by which name, with which lengths, unmasked."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

Call = Callable[[Tensor], Any]

# Names under which a forward that takes keywords alone has its input: NeMo's, transformers', fairseq's, others'.
_INPUTS = (
    "input_signal",
    "audio_signal",
    "input_values",
    "input_features",
    "waveforms",
    "waveform",
    "source",
    "audio",
    "audios",
    "wavs",
    "wav",
    "signal",
    "speech",
    "samples",
    "inputs",
    "input",
    "features",
    "x",
)
_LENGTHS = re.compile(r"(len|lens|length|lengths)$")  # ESPnet's `ilens`, too
_RELATIVE_LENGTHS = ("wav_len", "wav_lens")  # SpeechBrain's: 1 for the longest of the batch
_MASKING = (
    "mask",
    "masking",
    "apply_mask",
    "apply_masking",
    "do_mask",
    "augment",
    "augmentation",
    "apply_augment",
    "apply_augmentation",
    "apply_spec_augment",
    "spec_augment",
)


def adapted(target: Callable[..., Any], time_dim: int = -1, unmasked: bool = False) -> Call:
    """A function of the segments that calls ``target`` as an evaluation of its embeddings would.

    ``features_only`` is True, as in fairseq's ``extract_features``. Lengths and padding masks that it requires say
    that all of a segment is sound. If it takes its input by keyword alone, it gets it so.

    Args:
        target: A module, method or function.
        time_dim: Dimension of the segments that is time.
        unmasked: Whether arguments that ask for masks or augmentation by default (``mask=True``,
            ``apply_masking=True``, ...) are False.

    Returns:
        ``target`` itself, if there is nothing to adapt or its signature is not known.

    Example:
        >>> def forward(source, padding_mask=None, mask=True):
        ...     return mask
        >>> adapted(forward)(torch.zeros(2, 400)), adapted(forward, unmasked=True)(torch.zeros(2, 400))
        (True, False)
    """
    parameters = _parameters(target)
    if parameters is None:
        return target
    switches = _switches(parameters, unmasked)
    positional = [p for p in parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    takes_any = any(p.kind == p.VAR_POSITIONAL for p in parameters.values())
    keyword = None if positional or takes_any else _input_name(parameters)
    wanted = [p.name for p in [*positional[1:], *_keyword_only(parameters)] if p.name != keyword]
    full = [name for name in wanted if _describes_lengths(name) and _is_due(parameters[name], keyword)]
    if not switches and not full and keyword is None:
        return target

    def call(segments: Tensor) -> Any:
        named = {name: _full(name, segments, time_dim) for name in full} | switches
        if keyword is not None:
            return target(**{keyword: segments}, **named)
        return target(segments, **named)

    return call


def describe_switches(target: Callable[..., Any], unmasked: bool = False) -> str:
    """The arguments of ``target`` that :func:`adapted` sets to other than their defaults, for messages.

    Example:
        >>> describe_switches(lambda x, mask=True: x, unmasked=True)
        ' with mask=False'
    """
    switches = _switches(_parameters(target) or {}, unmasked)
    return f" with {', '.join(f'{name}={value}' for name, value in switches.items())}" if switches else ""


def is_switch(name: str) -> bool:
    """Whether an argument of this name turns masks, augmentation or heads on or off."""
    return name in _MASKING or name == "features_only"


def default_of(target: Callable[..., Any], name: str) -> Any:
    """The default of an argument; ``None`` if there is none."""
    parameter = (_parameters(target) or {}).get(name)
    return None if parameter is None or parameter.default is parameter.empty else parameter.default


def _parameters(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter] | None:
    try:
        return inspect.signature(target.forward if isinstance(target, nn.Module) else target).parameters
    except (ValueError, TypeError):  # built in C or scripted: no signature
        return None


def _switches(parameters: Mapping[str, inspect.Parameter], unmasked: bool) -> dict[str, bool]:
    """By name the values of switches for embeddings that have others by default."""
    switches = {
        name: False for name, p in parameters.items() if unmasked and name in _MASKING and p.default is True
    }
    features_only = parameters.get("features_only")
    return switches | ({"features_only": True} if features_only and features_only.default is False else {})


def _keyword_only(parameters: Mapping[str, inspect.Parameter]) -> list[inspect.Parameter]:
    return [p for p in parameters.values() if p.kind == p.KEYWORD_ONLY]


def _input_name(parameters: Mapping[str, inspect.Parameter]) -> str | None:
    names = [p.name for p in _keyword_only(parameters)]
    return next((name for name in _INPUTS if name in names), None)


def _describes_lengths(name: str) -> bool:
    return bool(_LENGTHS.search(name)) or name in ("padding_mask", "attention_mask")


def _is_due(parameter: inspect.Parameter, keyword: str | None) -> bool:
    """Whether it must be given. Typed forwards, of keywords alone, have None where they mean that it must not be
    left out."""
    of_input = keyword is not None and (parameter.name.startswith(f"{keyword}_") or "_" not in parameter.name)
    return parameter.default is parameter.empty or (of_input and parameter.default is None)


def _full(name: str, segments: Tensor, time_dim: int) -> Tensor:
    """Lengths or a mask that say that all of each segment is sound."""
    rows, length = len(segments), segments.shape[time_dim]
    if name == "padding_mask":
        return torch.zeros(rows, length, dtype=torch.bool, device=segments.device)
    if name == "attention_mask":
        return torch.ones(rows, length, dtype=torch.long, device=segments.device)
    if name in _RELATIVE_LENGTHS:
        return torch.ones(rows, device=segments.device)
    return torch.full((rows,), length, device=segments.device)
