"""Reproducible choices without a random generator: hash what is chosen, together with the seed.

A choice that depends on a hash of the thing itself is the same at every epoch, in any batch order, on
any device and on any number of processes, and it leaves every random generator as it was.
"""

from __future__ import annotations

import torch
from torch import Tensor

_GOLDEN_GAMMA = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_MULTIPLIER_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MULTIPLIER_2 = -7723592293110705685  # 0x94D049BB133111EB
_SAMPLES_AT_ONCE = 1 << 20  # bounds the 64-bit temporaries at a few 8 MiB buffers


def _logical_shift_right(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def mix(x: Tensor, seed: int = 0) -> Tensor:
    """Scramble 64-bit integers: the finaliser of SplitMix64 after adding a multiple of its constant.

    Args:
        x: Integer tensor of any shape.
        seed: Any integer; different seeds give unrelated values.

    Returns:
        An int64 tensor of the shape and on the device of ``x``.

    Source:
        Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.

    Example:
        >>> import torch
        >>> mix(torch.arange(3), seed=7).tolist() == mix(torch.arange(3), seed=7).tolist()
        True
        >>> mix(torch.tensor([0])).item()  # the first output of SplitMix64 seeded with 0
        -2152535657050944081
    """
    offset = ((seed + 1) * (_GOLDEN_GAMMA % 2**64)) % 2**64
    x = x.to(torch.int64) + (offset - 2**64 if offset >= 2**63 else offset)
    x = (x ^ _logical_shift_right(x, 30)) * _MULTIPLIER_1
    x = (x ^ _logical_shift_right(x, 27)) * _MULTIPLIER_2
    return x ^ _logical_shift_right(x, 31)


def uniform(x: Tensor, seed: int = 0) -> Tensor:
    """Turn 64-bit integers into float64 numbers that look uniform on [0, 1).

    Args:
        x: Integer tensor of any shape.
        seed: Any integer.

    Returns:
        A float64 tensor of the shape of ``x``.

    Example:
        >>> import torch
        >>> u = uniform(torch.arange(10000), seed=3)
        >>> bool(u.min() >= 0), bool(u.max() < 1), round(u.mean().item(), 1)
        (True, True, 0.5)
    """
    return _logical_shift_right(mix(x, seed), 11).to(torch.float64) * 2.0**-53


def segment_names(keys: Tensor, num_segments: int) -> Tensor:
    """A hash for each segment of each anchor, from which what happens to it alone is drawn.

    Args:
        keys: ``(n,)`` int64, what tells the anchors apart.
        num_segments: Number of segments of each anchor.

    Returns:
        ``(n, num_segments)`` int64 on the device of ``keys``.

    Example:
        >>> import torch
        >>> segment_names(torch.tensor([3, 4]), 2).unique().shape
        torch.Size([4])
    """
    return mix(keys[:, None] + mix(torch.arange(num_segments, device=keys.device)))


def content_hash(x: Tensor, lengths: Tensor) -> Tensor:
    """Name each row by what it holds: a 64-bit hash of its first ``lengths`` values.

    The hash is a sum of products with position-dependent numbers modulo 2**64, so it depends neither on
    the order of the additions nor on the padding behind the row: the same utterance has the same name in
    any batch, on any device.

    Args:
        x: ``(B, T)`` tensor of any real dtype; it is compared as float32.
        lengths: ``(B,)`` int64, how many leading values of each row count.

    Returns:
        ``(B,)`` int64 on the device of ``x``.

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0, 2.0, 0.0], [1.0, 2.0, 9.0]])
        >>> a, b = content_hash(x, torch.tensor([2, 2]))
        >>> bool(a == b)
        True
    """
    num_rows, num_values = x.shape
    lengths = lengths.to(x.device)
    total = torch.zeros(num_rows, dtype=torch.int64, device=x.device)
    # In blocks of columns, of the rows that reach so far: one long row costs what it is long, not what it pads.
    columns = max(1, _SAMPLES_AT_ONCE // max(1, num_rows))
    for start in range(0, min(num_values, int(lengths.max())) if num_rows else 0, columns):
        rows = (lengths > start).nonzero()[:, 0]
        block = x[:, start : start + columns]
        block = block if len(rows) == num_rows else block[rows]
        positions = torch.arange(start, start + block.shape[1], device=x.device)
        bits = block.to(torch.float32).contiguous().view(torch.int32).to(torch.int64)
        bits = torch.where(positions < lengths[rows, None], bits, 0)
        total[rows] += (bits * (mix(positions, seed=1) | 1)).sum(dim=1)
    return mix(total + mix(lengths, seed=2))
