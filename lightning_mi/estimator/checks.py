"""Argument checks, whose errors name the argument, what came, what was expected and what to change."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor


def check_embeddings(name: str, z: Tensor) -> None:
    """Raise unless ``z`` is an ``(N, D)`` floating-point tensor with N, D >= 1."""
    if not isinstance(z, Tensor):
        raise TypeError(f"`{name}` must be a torch.Tensor of shape (N, D), got {type(z).__name__}.")
    if not z.is_floating_point():
        raise TypeError(
            f"`{name}` must hold floating-point embeddings, got dtype {z.dtype}. Convert it with `.float()`."
        )
    if z.ndim != 2 or z.shape[1] == 0:
        raise ValueError(
            f"`{name}` must have shape (N, D) with D >= 1, got {tuple(z.shape)}. Pool frames over time first."
        )


def check_finite(name: str, z: Tensor) -> None:
    """Raise if ``z`` ``(N, D)`` holds NaN or infinity."""
    if bool(torch.isfinite(torch.stack(z.aminmax())).all() if z.numel() else True):
        return
    bad = ~torch.isfinite(z).all(dim=1)
    raise ValueError(
        f"`{name}` must be finite, got NaN or infinity in {int(bad.sum())} of {z.shape[0]} rows. "
        "Leave these rows out of both segments."
    )


def check_integer_vector(name: str, x: Tensor, num_rows: int) -> None:
    """Raise unless ``x`` is an integer tensor of shape ``(num_rows,)``."""
    if not isinstance(x, Tensor):
        raise TypeError(f"`{name}` must be a torch.Tensor of shape (N,), got {type(x).__name__}.")
    if x.is_floating_point() or x.is_complex() or x.dtype == torch.bool:
        raise TypeError(f"`{name}` must be an integer tensor, got dtype {x.dtype}.")
    if x.shape != (num_rows,):
        raise ValueError(f"`{name}` must have one entry for each row, shape ({num_rows},), got {tuple(x.shape)}.")


def check_same_rows(name: str, num_rows: int, reference: str, num_reference_rows: int) -> None:
    """Raise unless both tensors have the same number of rows."""
    if num_rows != num_reference_rows:
        raise ValueError(
            f"`{reference}` and `{name}` must have the same number of rows, got {num_reference_rows} and "
            f"{num_rows}. Row i of both must come from the same utterance."
        )


def check_positive_int(name: str, value: int) -> None:
    """Raise unless ``value`` is an int of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"`{name}` must be an int, got {value!r} of type {type(value).__name__}.")
    if value < 1:
        raise ValueError(f"`{name}` must be at least 1, got {value}.")


def check_int(name: str, value: int) -> None:
    """Raise unless ``value`` is an int."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"`{name}` must be an int, got {value!r} of type {type(value).__name__}.")


def check_bool(name: str, value: bool) -> None:
    """Raise unless ``value`` is a bool: of any text, even "no", Python says that it is true."""
    if not isinstance(value, bool):
        raise TypeError(f"`{name}` must be True or False, got {value!r} of type {type(value).__name__}.")


def check_seed(seed: int) -> None:
    """Raise unless ``seed`` is an int that torch's generators take, also doubled (each fold has its own)."""
    check_int("seed", seed)
    if not -(2**62) <= seed < 2**63:
        raise ValueError(f"`seed` must be from -2**62 to 2**63 - 1, got {seed}.")


def check_positive_number(name: str, value: float, unit: str) -> None:
    """Raise unless ``value`` is a positive, finite number; ``unit`` names its unit in the message."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"`{name}` must be a number of {unit}, got {value!r} of type {type(value).__name__}.")
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"`{name}` must be a positive number of {unit}, got {value!r}.")


def check_choice(name: str, value: str, choices: Iterable[str]) -> None:
    """Raise unless ``value`` is one of ``choices``."""
    if not isinstance(value, str) or value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"`{name}` must be one of {listed}, got {value!r}.")
