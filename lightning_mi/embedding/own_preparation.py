"""What a LightningModule's own ``forward`` does to its input before it calls a model of a known library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lightning_mi.embedding.encoder import Encoder
from lightning_mi.embedding.outputs import OUTPUT, is_plain, tensors_in


def called_by_forward(encoder: Encoder) -> Encoder:
    """An encoder of the same model, which calls the LightningModule's ``forward`` and takes what the model returns
    inside of that."""
    assert encoder.model is not None
    assert encoder.forward is not None
    return replace(
        encoder,
        name=f"{encoder.name} as `forward` calls it",
        call=encoder.forward,
        layers=encoder.layers or ((OUTPUT, encoder.model),),
        squeeze_mono=False,
    )


def prepares_input(
    encoder: Encoder, call: Callable[[Encoder], object], segments: Tensor
) -> tuple[bool, str | None]:
    """Whether ``forward`` gives the model something else than it is called with.

    Args:
        encoder: What the callback would call.
        call: Calls an encoder with ``segments``.
        segments: The segments.

    Returns:
        Whether the model is to be called by ``forward``, and a doubt if it should be and cannot be.
    """
    if encoder.model is None or encoder.forward is None:
        return False, None
    heard: list[Tensor] = []

    def listen(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tensors = (x for _, x in tensors_in([*args, *kwargs.values()]) if is_plain(x))
        given = next((x for x in tensors if x.is_floating_point()), None)
        if given is not None:
            heard.append(given.detach().clone())

    handle = encoder.model.register_forward_pre_hook(listen, with_kwargs=True)
    forward = replace(encoder, name="`forward`", call=encoder.forward, layers=(), squeeze_mono=False)
    error: Exception | None = None
    try:
        call(forward)
    except Exception as raised:
        error = raised
    finally:
        handle.remove()
    if not heard or any(_same(x, segments) for x in heard):
        return False, None
    if error is None and len(heard) == 1:
        return True, None
    why = "calls it more than once" if error is None else f"cannot be called with segments alone ({error})"
    return False, (
        f"calls {encoder.name} with segments as they are, while `forward` gives it something else "
        f"({_summary(heard[0])} in place of {_summary(segments)}) but {why}. If the model needs that preparation, "
        "pass `embed=`, a function of the module and the segments that does it."
    )


def _same(heard: Tensor, segments: Tensor) -> bool:
    heard, segments = heard.squeeze(), segments.squeeze()
    return heard.shape == segments.shape and torch.allclose(heard.float(), segments.float(), rtol=1e-2, atol=1e-6)


def _summary(x: Tensor) -> str:
    return f"shape {tuple(x.shape)}, standard deviation {x.float().std().item():.3g}"
