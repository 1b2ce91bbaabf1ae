"""Arguments of the callback, checked once into one frozen record, with what ``None`` stands for."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from lightning_mi.embedding.pooling import POOLINGS, Pooling
from lightning_mi.estimator.checks import (
    check_bool,
    check_choice,
    check_int,
    check_positive_int,
    check_positive_number,
    check_seed,
)
from lightning_mi.estimator.registry import BOUNDS, PROBES, QUANTIZERS, BoundName, ProbeName, QuantizerName
from lightning_mi.inputs.channels import CHANNELS, Channels
from lightning_mi.inputs.labels import Labels, parse_labels
from lightning_mi.inputs.layout import Layout, parse_time_dim
from lightning_mi.inputs.segments import Gap, parse_gaps
from lightning_mi.presets import PRESETS, SEQUENCE_DEFAULT, WAVEFORM_DEFAULT, PresetName

BEST_LAYER = "best"


# What decides the number, beside the model and the data.
_DECISIVE = (
    "num_clusters",
    "max_pairs",
    "segment_seconds",
    "gap_seconds",
    "speed",
    "sample_rate",
    "layers",
    "pooling",
    "quantizer",
    "channels",
    "embed",
    "seed",
    "pairs_per_utterance",
    "probe",
    "bound",
    "primary_layer",
    "time_dim",
)


@dataclass(frozen=True)
class Arguments:
    """Arguments of :class:`lightning_mi.MIBoundCallback`, which documents them. What the preset has a value for is
    resolved: ``None`` becomes that of :data:`lightning_mi.presets.PRESETS`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.

    Example:
        >>> arguments = Arguments("voice", segment_seconds=0.5)
        >>> arguments.pooling, arguments.segment_seconds
        ('mean', 0.5)
        >>> Arguments(time_dim=1).preset
        'paper'
    """

    preset: PresetName = None  # type: ignore[assignment]
    num_clusters: int | None = None
    max_pairs: int = 4096
    segment_seconds: float = None  # type: ignore[assignment]
    gap_seconds: float | str | Sequence[float | str] = None  # type: ignore[assignment]
    sample_rate: float = 16_000
    layers: str | Sequence[str] | None = None
    pooling: Pooling = None  # type: ignore[assignment]
    embed: str | Callable[..., Any] | None = None
    every_n_epochs: int = 1
    seed: int = 0
    log_name: str = "val/mi_bound"
    batch_to_waveforms: Callable[[Any], Any] | None = None
    pairs_per_utterance: int | None = None
    quantizer: QuantizerName = None  # type: ignore[assignment]
    probe: ProbeName = "linear"
    primary_layer: str | None = None
    labels: Any = None
    input_baseline: bool = True
    null_control: bool = True
    plot_every_n_epochs: int = 1
    time_dim: int | None = None
    channels: Channels = None  # type: ignore[assignment]
    speed: float = None  # type: ignore[assignment]
    bound: BoundName = "clusters"

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, _plain(getattr(self, field.name)))
        if self.preset is None:
            default = WAVEFORM_DEFAULT if self.time_dim is None else SEQUENCE_DEFAULT
            object.__setattr__(self, "preset", default)
        self._check_preset()
        for name, value in PRESETS[self.preset]._asdict().items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, _plain(value))
        self._check()

    @cached_property
    def gaps(self) -> tuple[Gap, ...]:
        """``gap_seconds``, parsed; the first is that of the primary bound."""
        return parse_gaps(self.gap_seconds)

    @cached_property
    def layout(self) -> Layout:
        """``time_dim``, parsed."""
        return parse_time_dim(self.time_dim)

    @cached_property
    def label_sources(self) -> tuple[Labels, ...]:
        """``labels``, parsed."""
        return parse_labels(self.labels)

    @property
    def wants_null(self) -> bool:
        """Whether there is a null control: near-duplicates are known by their sound alone."""
        return self.null_control and self.time_dim is None

    def settings(self) -> dict[str, Any]:
        """What decides the number, beside the model and the data, as plain values for a checkpoint.

        Example:
            >>> Arguments(embed=lambda x: x).settings()["embed"]
            'a callable'
        """
        return {name: _storable(getattr(self, name)) for name in _DECISIVE}

    def _check(self) -> None:
        for name in ("num_clusters", "pairs_per_utterance"):
            if getattr(self, name) is not None:
                check_positive_int(name, getattr(self, name))
        for name in ("max_pairs", "every_n_epochs"):
            check_positive_int(name, getattr(self, name))
        check_positive_number("sample_rate", self.sample_rate, "samples (with `time_dim` frames) a second")
        check_seed(self.seed)
        for name in ("input_baseline", "null_control"):
            check_bool(name, getattr(self, name))
        check_int("plot_every_n_epochs", self.plot_every_n_epochs)
        if self.plot_every_n_epochs < 0:
            raise ValueError(f"`plot_every_n_epochs` must not be negative, got {self.plot_every_n_epochs}.")
        self._check_segment_seconds()
        check_choice("probe", self.probe, PROBES)
        check_choice("bound", self.bound, BOUNDS)
        check_choice("pooling", self.pooling, POOLINGS)
        check_choice("quantizer", self.quantizer, QUANTIZERS)
        check_choice("channels", self.channels, CHANNELS)
        if self.primary_layer is not None and not isinstance(self.primary_layer, str):
            raise TypeError(
                f"`primary_layer` must be the name of a layer or {BEST_LAYER!r}, got {self.primary_layer!r}."
            )
        if self.batch_to_waveforms is not None and not callable(self.batch_to_waveforms):
            raise TypeError(f"`batch_to_waveforms` must be callable, got {self.batch_to_waveforms!r}.")
        if not isinstance(self.log_name, str) or self.log_name.split("/")[-1] == "":
            raise ValueError(
                f"`log_name` must be the name of a metric, got {self.log_name!r}. Take one that does not end in "
                "'/'."
            )
        if self.layout.time_dim is not None and self.channels != "shared":
            raise ValueError(
                f"`channels={self.channels!r}` changes waveforms, got feature sequences (`time_dim`). "
                "Take `channels='shared'`."
            )
        self._check_views()
        _ = self.label_sources

    def _check_preset(self) -> None:
        if isinstance(self.preset, int) and not isinstance(self.preset, bool):
            raise TypeError(
                f"`preset` must be the name of a preset, got {self.preset}. Write `num_clusters={self.preset}` if "
                "that is what you mean."
            )
        check_choice("preset", self.preset, PRESETS)
        if self.time_dim is not None and PRESETS[self.preset].channels != "shared":
            raise ValueError(
                f"`preset={self.preset!r}` changes waveforms, got feature sequences (`time_dim`). Take "
                f"`preset={SEQUENCE_DEFAULT!r}`, their default, and arguments of your own."
            )

    def _check_views(self) -> None:
        check_positive_number("speed", self.speed, "times the speed")
        if self.speed < 1:
            raise ValueError(
                f"`speed` must be at least 1 (as it is), got {self.speed!r}: speeds are drawn between "
                "1 / `speed` and `speed`."
            )
        if self.layout.time_dim is not None and self.speed > 1:
            raise ValueError(
                f"`speed={self.speed!r}` plays waveforms, got feature sequences (`time_dim`). Take `speed=1`."
            )
        if self.speed == 1 and self.channels == "shared" and any(gap.name == "same" for gap in self.gaps):
            raise ValueError(
                '`gap_seconds="same"` compares two views of one moment, which are equal with `speed=1` and '
                '`channels="shared"`. Take `speed=1.3` or `channels="independent"`; feature sequences '
                "(`time_dim`) have no views."
            )

    def _check_segment_seconds(self) -> None:
        seconds, rate = self.segment_seconds, self.sample_rate
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
            raise TypeError(f"`segment_seconds` must be a number of seconds, got {seconds!r}.")
        if not (math.isfinite(seconds) and seconds * rate >= 1):
            raise ValueError(
                f"`segment_seconds` must be positive, at least one sample at `sample_rate={rate:g}`, got "
                f"{seconds!r}."
            )


def _plain(value: Any) -> Any:
    """Scalars of numpy and torch, enums and paths as Python's own values: a checkpoint with others cannot be read
    weights-only."""
    if isinstance(value, np.generic) or (isinstance(value, Tensor) and value.ndim == 0):
        return value.item()
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def _storable(value: Any) -> Any:
    if value is None or isinstance(value, (str, int, float)):
        return value
    return "a callable" if callable(value) else list(value)
