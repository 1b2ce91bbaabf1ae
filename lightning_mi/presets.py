"""Presets: what one word stands for, the arguments of the callback that decide what the number means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple

from lightning_mi.embedding.pooling import Pooling
from lightning_mi.estimator.registry import QuantizerName
from lightning_mi.inputs.channels import Channels

PresetName = Literal["adjacent", "content", "voice", "paper"]


class Preset(NamedTuple):
    """Values of the arguments of the same names of :class:`lightning_mi.MIBoundCallback`.

    Attributes:
        segment_seconds: Length of a segment, in seconds.
        gap_seconds: Where partners lie.
        speed: Highest speed at which segments are played.
        channels: Whether segments share their acoustic channel.
        pooling: How frames become one vector.
        quantizer: What is clustered.
    """

    segment_seconds: float
    gap_seconds: str | Sequence[str]
    speed: float
    channels: Channels
    pooling: Pooling
    quantizer: QuantizerName


PRESETS: Mapping[PresetName, Preset] = MappingProxyType(
    {
        "adjacent": Preset(0.5, "near", 1.0, "independent", "boundary", "canonical"),
        "content": Preset(0.5, ("same", "far"), 1.3, "independent", "center", "canonical"),
        "voice": Preset(1.0, "near", 1.0, "independent", "mean", "canonical"),
        "paper": Preset(0.5, "near", 1.0, "shared", "mean", "kmeans"),
    }
)
"""By name. ``examples/model_selection`` and ``examples/public_encoders`` have the evidence; ``"paper"`` is that of
Liu, Yeh, Glass, ICASSP 2024, arXiv:2401.08833.

Example:
    >>> PRESETS["voice"].pooling
    'mean'
"""

WAVEFORM_DEFAULT: PresetName = "adjacent"
SEQUENCE_DEFAULT: PresetName = "paper"
