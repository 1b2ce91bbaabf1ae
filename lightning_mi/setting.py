"""What the bound is taken of, where the user leaves it open: how segments sound, are pooled and are clustered."""

from __future__ import annotations

from typing import NamedTuple

from lightning_mi.embedding.encoder import POOLINGS, Pooling
from lightning_mi.estimator.checks import check_choice
from lightning_mi.estimator.registry import QUANTIZERS
from lightning_mi.inputs.channels import CHANNELS, Channels


class Setting(NamedTuple):
    """Three arguments of :class:`lightning_mi.MIBoundCallback`.

    Attributes:
        pooling: How frames become one vector.
        quantizer: What is clustered.
        channels: Whether segments share their channel.
    """

    pooling: Pooling
    quantizer: str
    channels: Channels


FOR_SPEECH = Setting("boundary", "canonical", "independent")
"""Its bound went with phone and voice accuracy of the models in ``examples/model_selection``, inside of a training
run better than the others that the callback has."""

THE_PAPERS = Setting("mean", "kmeans", "shared")
"""Liu, Yeh, Glass, ICASSP 2024, arXiv:2401.08833."""


def choose_setting(
    of_waveforms: bool,
    pooling: Pooling | None = None,
    quantizer: str | None = None,
    channels: Channels | None = None,
) -> Setting:
    """What is given, and for the rest :data:`FOR_SPEECH`, or for feature sequences :data:`THE_PAPERS`.

    Raises:
        TypeError: If ``quantizer`` is no string.
        ValueError: If there is no such choice, or feature sequences are to go through channels.

    Example:
        >>> choose_setting(of_waveforms=True, pooling="mean")
        Setting(pooling='mean', quantizer='canonical', channels='independent')
        >>> choose_setting(of_waveforms=False)
        Setting(pooling='mean', quantizer='kmeans', channels='shared')
    """
    default = FOR_SPEECH if of_waveforms else THE_PAPERS
    pooling = default.pooling if pooling is None else pooling
    quantizer = default.quantizer if quantizer is None else quantizer
    channels = default.channels if channels is None else channels
    if pooling not in POOLINGS:
        raise ValueError(f"`pooling` must be one of {POOLINGS} or None, got {pooling!r}.")
    check_choice("quantizer", quantizer, QUANTIZERS)
    if channels not in CHANNELS:
        raise ValueError(f"`channels` must be one of {CHANNELS} or None, got {channels!r}.")
    if channels == "independent" and not of_waveforms:
        raise ValueError(
            "`channels='independent'` changes waveforms, got feature sequences (`time_dim`). Take `channels='shared'`."
        )
    return Setting(pooling, quantizer, channels)
