"""Labels in a validation batch: one for each utterance, or many a second."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_mi.inputs.structure import UnknownStructureError, describe_structure

Source = str | int | Callable[[Any], Any]
_DEFAULT_NAME = "labels"
_LAYERS = "layers"  # the part of a logged name that separates labels from layers
NO_LABEL = -1  # the value that lightning_mi.labeled_mi_bound leaves out


@dataclass(frozen=True)
class Labels:
    """Where labels are found in a batch, made by :func:`parse_labels`.

    Attributes:
        name: Name in the logged metrics.
        source: A key or field, an index, or a function of the batch.
        rate: Labels a second; ``None`` for one label an utterance.
    """

    name: str
    source: Source
    rate: float | None = None

    def read(self, batch: Any, num_rows: int) -> Tensor:
        """The labels in a batch of ``num_rows`` utterances, as int64 on the host: ``(B,)``, or ``(B, F)`` if
        they have a rate. Strings become numbers by a hash. -1 is no label.

        Raises:
            UnknownStructureError: (a ValueError) if they are not there, or are no labels.
        """
        try:
            found = self.source(batch) if callable(self.source) else _look_up(batch, self.source)
        except (KeyError, IndexError, AttributeError, TypeError) as error:
            raise UnknownStructureError(
                f"`labels` must name a part of the validation batch, got {self.source!r} for {self.name!r}, which "
                f"raised {type(error).__name__}: {error}. The batch is\n{describe_structure(batch)}"
            ) from error
        labels = _numbers(found)
        wanted = 1 if self.rate is None else 2
        fits = isinstance(labels, Tensor) and not labels.is_floating_point() and labels.shape[:1] == (num_rows,)
        if labels is not None and fits and labels.ndim == 2 == wanted + 1 and labels.shape[1] == 1:
            labels = labels[:, 0]
        if labels is None or not fits or labels.ndim != wanted:
            shape = f"({num_rows},)" if self.rate is None else f"({num_rows}, F), F labels for each utterance,"
            what = f"{tuple(labels.shape)}, {labels.dtype}" if isinstance(labels, Tensor) else type(found).__name__
            raise UnknownStructureError(
                f"`labels` must give integers (or strings) of shape {shape} for {self.name!r}, got {what}. Labels "
                "for frames need their `rate` beside their `source`, in labels a second."
            )
        return labels.detach().to("cpu", torch.int64)


def parse_labels(labels: Any) -> tuple[Labels, ...]:
    """Read the argument ``labels`` of :class:`lightning_mi.MIBoundCallback`.

    Args:
        labels: A key or field of the batch, an index, or a function of the batch; or a mapping of names to these,
            or of names to mappings with a ``source`` and a ``rate`` in labels a second. ``None``: no labels.

    Raises:
        TypeError: If it, or a part of it, is of another type.
        ValueError: If a rate is not positive, or names would collide in the logged metrics.

    Example:
        >>> [found.name for found in parse_labels({"speaker": 2, "phone": {"source": "phones", "rate": 100}})]
        ['speaker', 'phone']
        >>> parse_labels("speaker")[0].source
        'speaker'
    """
    if labels is None:
        return ()
    if not isinstance(labels, Mapping):
        labels = {labels if isinstance(labels, str) else _DEFAULT_NAME: labels}
    parsed = tuple(_parse_one(str(name), entry) for name, entry in labels.items())
    names = [each.name for each in parsed]
    for name in names:
        if not name.strip("/") or _LAYERS in name.split("/") or names.count(name) > 1:
            raise ValueError(
                f"`labels` must have different, non-empty names without the part {_LAYERS!r}, got {name!r} in "
                f"{names}. Rename it, since logged names would collide."
            )
    return parsed


def read_labels(labels: Sequence[Labels], batch: Any, num_rows: int) -> dict[str, Tensor]:
    """All ``labels`` of a batch by name, see :meth:`Labels.read`.

    Example:
        >>> read_labels(parse_labels("speaker"), {"speaker": [3, 4]}, num_rows=2)
        {'speaker': tensor([3, 4])}
    """
    return {each.name: each.read(batch, num_rows) for each in labels}


def _parse_one(name: str, entry: Any) -> Labels:
    source, rate = entry, None
    if isinstance(entry, Mapping):
        if not {"source"} <= set(entry) <= {"source", "rate"}:
            raise TypeError(f"`labels[{name!r}]` must have a `source` and may have a `rate`, got {dict(entry)!r}.")
        source, rate = entry["source"], entry.get("rate")
    if isinstance(source, bool) or not (isinstance(source, (str, int)) or callable(source)):
        raise TypeError(
            f"`labels[{name!r}]` must be a key, an index or a function of the batch, got {source!r}. For several, "
            "pass a mapping of their names."
        )
    if rate is not None and (isinstance(rate, bool) or not isinstance(rate, (int, float))):
        raise TypeError(f"`labels[{name!r}]['rate']` must be a number of labels a second, got {rate!r}.")
    if rate is not None and not (math.isfinite(rate) and rate > 0):
        raise ValueError(f"`labels[{name!r}]['rate']` must be positive, got {rate!r}.")
    return Labels(name, source, None if rate is None else float(rate))


def labels_at(labels: Tensor, rate: float, seconds: Tensor) -> Tensor:
    """Labels ``(n, m)`` at ``seconds`` ``(n, m)``, of ``labels`` ``(n, F)`` with ``rate`` a
    second; -1 behind the last.

    Example:
        >>> import torch
        >>> labels_at(torch.tensor([[5, 6, 7]]), rate=10.0, seconds=torch.tensor([[0.0, 0.19, 0.3]])).tolist()
        [[5, 6, -1]]
    """
    index = (seconds * rate).floor().long()
    found = labels.gather(1, index.clamp(0, labels.shape[1] - 1))
    return torch.where((index >= 0) & (index < labels.shape[1]), found, NO_LABEL)


def _look_up(batch: Any, source: str | int) -> Any:
    if isinstance(source, str) and not isinstance(batch, Mapping):
        return getattr(batch, source)
    return batch[source]


def _numbers(found: Any) -> Tensor | None:
    if isinstance(found, Tensor):
        return found
    if isinstance(found, Sequence) and not isinstance(found, str):
        if all(isinstance(label, str) for label in found):
            return torch.tensor([number_of_text(label) for label in found], device="cpu")
        if all(isinstance(label, int) for label in found):
            return torch.tensor(found, device="cpu")
    return None


def number_of_text(text: str) -> int:
    """A hash of a string, the same in every process, below 2^63 and never negative, hence never "no label".

    Example:
        >>> number_of_text("p225") == number_of_text("p225") != number_of_text("p226")
        True
    """
    # Python's own hash differs from process to process.
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
