"""Sampling rates in a batch, and waveforms resampled to the rate that the callback works at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lightning_mi.inputs.lengths import constant_tails
from lightning_mi.inputs.resampling import SincResampler
from lightning_mi.inputs.structure import Leaf, UnknownStructureError, as_number, vectors

# Rates that recordings have: a nameless number right behind the waveform is one of them, or none.
_USUAL = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000, 192000)
_LOWEST, _HIGHEST = 1000, 400_000  # Hz; a number beyond is something else, whatever its name
_ONE_WORD = ("sr", "fs", "samplerate", "samplerates", "samplingrate", "samplingrates")
_OF_BEFORE = ("orig", "original", "native", "old", "target", "new")
_STATED = ("sample_rate", "sampling_rate", "samplerate", "sr")
_LARGEST_KERNEL = 2000  # filters of the resampler


def stated_rate(*holders: object) -> float | None:
    """The sampling rate in Hz that a LightningModule or LightningDataModule states: a number of such a name among
    its hyper-parameters or its attributes; ``None`` if there is none.

    Example:
        >>> from types import SimpleNamespace
        >>> stated_rate(None, SimpleNamespace(hparams={"sample_rate": 8000}))
        8000.0
    """
    for holder in holders:
        hparams = getattr(holder, "hparams", None)
        named = [dict(hparams)] if isinstance(hparams, Mapping) else []
        named.append({name: getattr(holder, name, None) for name in _STATED})
        for values in named:
            for name in _STATED:
                value = values.get(name)
                if (
                    isinstance(value, (int, float))
                    and not isinstance(value, bool)
                    and _LOWEST <= value <= _HIGHEST
                ):
                    return float(value)
    return None


def rates_in_batch(samples: Tensor, leaves: Sequence[Leaf]) -> Tensor | None:
    """The sampling rate of each row, ``(B,)`` float64 on the host in Hz; ``None`` if the batch does not say.

    It is a number of such a name (``sampling_rate``, ``sample_rate``, ``sr``, ``fs``, ...), for the batch or for
    each row, the one nearest to the waveforms; or a usual rate without a name right behind them, as in the tuples
    of torchaudio's data sets.

    Args:
        samples: The waveforms in the batch, ``(B, T)`` or ``(B, 1, T)``.
        leaves: All leaves of the batch.

    Raises:
        UnknownStructureError: (a ValueError) if the batch holds several, equally near, that differ.

    Example:
        >>> from lightning_mi.inputs.structure import leaves
        >>> batch = {"audio": {"array": torch.ones(2, 300), "sampling_rate": 8000}}
        >>> rates_in_batch(batch["audio"]["array"], list(leaves(batch)))
        tensor([8000., 8000.], dtype=torch.float64)
    """
    num_rows = samples.shape[0]
    position, home = next(
        ((index, leaf) for index, leaf in enumerate(leaves) if leaf.value is samples), (len(leaves), None)
    )
    found = [leaf._replace(value=rates) for leaf in leaves if (rates := _rates(leaf, num_rows)) is not None]
    found += [
        leaf._replace(value=leaf.value.double().cpu()) for leaf in vectors(leaves, num_rows) if _is_rate(leaf)
    ]
    if found:
        shared = [_shared_path(leaf.path, home.path if home is not None else "") for leaf in found]
        nearest = [leaf for leaf, steps in zip(found, shared, strict=True) if steps == max(shared)]
        if any(not torch.equal(leaf.value, nearest[0].value) for leaf in nearest):
            paths = ", ".join(f"batch{leaf.path}" for leaf in nearest)
            raise UnknownStructureError(
                f"The validation batch holds different sampling rates, {paths}: expected one for the waveforms. "
                "Pass `batch_to_waveforms=`, a function of the batch that returns the waveforms at `sample_rate`."
            )
        return nearest[0].value
    return _nameless(samples, leaves[position + 1 :], home)


def resampled(samples: Tensor, lengths: Tensor, rates: Tensor, sample_rate: float) -> tuple[Tensor, Tensor]:
    """Waveforms of the given rates at ``sample_rate``, by :class:`~lightning_mi.inputs.resampling.SincResampler`.

    Each row is resampled by itself and without its padding, so that it has the same samples in any batch.

    Args:
        samples: ``(B, T)`` or ``(B, 1, T)`` floating-point.
        lengths: ``(B,)`` integers.
        rates: ``(B,)`` in Hz, on the host.
        sample_rate: In Hz.

    Returns:
        Samples of the same shape but for T, padded with zeros, and their lengths ``(B,)`` int64.

    Raises:
        UnknownStructureError: (a ValueError) if the ratio of the rates is none of small integers.

    Example:
        >>> slow, lengths = resampled(torch.ones(2, 300), torch.tensor([300, 200]), torch.tensor([8e3, 8e3]), 16e3)
        >>> slow.shape, lengths.tolist()
        (torch.Size([2, 600]), [600, 400])
    """
    rows: list[Tensor] = []
    made = {}
    for row, length, rate in zip(samples.flatten(1), lengths.tolist(), rates.tolist(), strict=True):
        if rate not in made:
            made[rate] = SincResampler(*_ratio(rate, sample_rate, rates), samples.device)
        sound = row[:length].float()
        rows.append((made[rate](sound) if rate != sample_rate and length else sound).to(samples.dtype))
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    new_lengths = torch.tensor([len(row) for row in rows], device=lengths.device)
    return (padded if samples.ndim == 2 else padded[:, None]), new_lengths


def _rates(leaf: Leaf, num_rows: int) -> Tensor | None:
    """One named number for the whole batch, repeated."""
    number = as_number(leaf.value)
    if number is None and isinstance(leaf.value, Tensor) and leaf.value.numel() == 1:
        number = leaf.value.item()
    if (
        number is None
        or leaf.path[-2:-1].isdigit()
        or not (_is_rate_name(leaf.name) and _LOWEST <= number <= _HIGHEST)
    ):
        return None
    return torch.full((num_rows,), float(number), dtype=torch.float64)


def _is_rate(leaf: Leaf) -> bool:
    within = (leaf.value >= _LOWEST) & (leaf.value <= _HIGHEST)
    return _is_rate_name(leaf.name) and bool(within.all())


def _is_rate_name(name: str) -> bool:
    words = name.replace("-", "_").replace(".", "_").split("_")
    if not set(words).isdisjoint(_OF_BEFORE):
        return False
    is_rate = words[-1] in ("rate", "rates", "frequency", "freq", "hz")
    return words[-1] in _ONE_WORD or (
        is_rate and not {"sample", "sampling", "audio", "wav"}.isdisjoint(words[:-1])
    )


def _nameless(samples: Tensor, behind: Sequence[Leaf], home: Leaf | None) -> Tensor | None:
    """The numbers right behind the waveforms in the same tuple, if all are one usual rate and no length."""
    behind = [leaf for leaf in behind if home is not None and leaf.path != home.path]  # not its own lengths
    if home is None or not behind or behind[0].name != home.name:
        return None
    num_rows, num_samples = samples.shape[0], samples.shape[-1]
    first = behind[0]
    is_beside = home.parent in (
        first.parent,
        first._replace(path=first.parent).parent,
    )  # itself, or a list of them
    if isinstance(first.value, Tensor) and not first.value.is_floating_point() and first.value.numel() == num_rows:
        numbers = first.value.reshape(num_rows).cpu()
    elif isinstance(first.value, int) and not isinstance(first.value, bool) and is_beside:
        in_list = first.parent != home.parent
        column = [leaf.value for leaf in behind if leaf.parent == first.parent] if in_list else [first.value]
        if not all(isinstance(value, int) for value in column) or len(column) not in (1, num_rows):
            return None
        numbers = torch.tensor(column)
    else:
        return None
    rate = int(numbers[0])
    if rate not in _USUAL or not bool((numbers == rate).all()):
        return None
    ends = constant_tails(samples.reshape(num_rows, num_samples, 1))
    if rate == num_samples or (rate < num_samples and bool((ends <= rate).all())):
        return None  # what lies behind is padding: it is a length
    return torch.full((num_rows,), float(rate), dtype=torch.float64)


def _shared_path(one: str, other: str) -> int:
    """Number of steps at the start that two paths share."""
    steps = [path.replace("]", "").replace("[", ".").split(".") for path in (one, other)]
    same = 0
    while same < min(map(len, steps)) and steps[0][same] == steps[1][same]:
        same += 1
    return same


def _ratio(rate: float, sample_rate: float, rates: Tensor) -> tuple[int, int]:
    old, new = round(rate), round(sample_rate)
    divisor = math.gcd(old, new)
    if old != rate or new != sample_rate or max(old, new) // divisor > _LARGEST_KERNEL:
        raise UnknownStructureError(
            f"The validation batch is sampled at {_listed(rates)} Hz, got `sample_rate={sample_rate:g}`: expected "
            f"rates that are whole numbers with a common divisor, to resample by. Pass `sample_rate={rate:g}`, or "
            "`batch_to_waveforms=`, a function of the batch that returns waveforms at `sample_rate`."
        )
    return old // divisor, new // divisor


def _listed(rates: Tensor) -> str:
    return ", ".join(f"{rate:g}" for rate in rates.unique().tolist())
