"""The embedding in a model's output, whatever structure that has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

OUTPUT = "output"  # the layer name of the encoder's own output

_OUTPUT_NAMES = ("last_hidden_state", "hidden_states", "features", "embeddings", "representations", "z", "x")


def frames_in_output(output: Any, batch_size: int) -> Tensor | None:
    """The embedding in a model's output, ``(B, T, D)`` or ``(B, D)``; ``None`` if it is ambiguous.

    Supported are a tensor, a list or tuple of layers (the last is taken), these beside lengths or other
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


def describe_output(output: Any) -> str:
    """A model's output as text, for error messages.

    Example:
        >>> import torch
        >>> describe_output((torch.zeros(2, 3), None))
        'a tuple of (a tensor of shape (2, 3), torch.float32, a NoneType)'
    """
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)}, {output.dtype}"
    if isinstance(output, Mapping):
        return "{" + ", ".join(f"{key!r}: {describe_output(value)}" for key, value in output.items()) + "}"
    if isinstance(output, (list, tuple)):
        return f"a {type(output).__name__} of (" + ", ".join(describe_output(part) for part in output) + ")"
    return f"a {type(output).__name__}"
