"""Pauses of recordings: silent ends are removed, and long recordings are cut at their pauses."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.ndimage import uniform_filter1d
from torch import Tensor

FRAME_SECONDS = 0.01
_BELOW_DB = 35.0  # this far below the loudest frames there is no speech
_SILENT_DB = -50.0  # re full scale; if the loudest frames are no louder, there is no speech
_LOUDEST = 95  # percentile of the frames
_MARGIN_SECONDS = 0.05  # kept before and after the speech: a stop's closure and a word's last breath are quiet
_PAUSE_SECONDS = 0.3  # over which the level is averaged to find a pause


def utterances_in(
    waveform: Tensor, sample_rate: int, shortest: float, longest: float, side: float
) -> list[tuple[float, float]]:
    """Start and end in seconds of the stretches of speech.

    The recording is cut where it is quietest until no part is longer than ``longest``; then each part loses the
    silence at its ends.

    Args:
        waveform: ``(T,)`` float32 in [-1, 1].
        sample_rate: In Hz.
        shortest: Parts with less than that, in seconds, are left out; so are those without speech.
        longest: In seconds; at least twice ``side``.
        side: The least that stays on either side of a cut, in seconds.

    Raises:
        ValueError: If ``longest`` is less than twice ``side``.

    Example:
        >>> import torch
        >>> tone = torch.sin(torch.arange(32000) / 3)
        >>> recording = torch.cat([torch.zeros(8000), tone, torch.zeros(8000), tone])
        >>> utterances_in(recording, 16000, shortest=1.0, longest=4.0, side=1.0)
        [(0.45, 2.55), (2.95, 5.0)]
    """
    if longest < 2 * side:
        raise ValueError(f"longest={longest}: expected at least twice side={side}")
    levels = levels_db(waveform, sample_rate)
    if not len(levels) or (loudest := float(np.percentile(levels, _LOUDEST))) < _SILENT_DB:
        return []
    margin = round(_MARGIN_SECONDS / FRAME_SECONDS)
    found = []
    for first, last in _cut(levels, 0, len(levels), round(longest / FRAME_SECONDS), round(side / FRAME_SECONDS)):
        speech = np.flatnonzero(levels[first:last] > loudest - _BELOW_DB)
        if len(speech):
            start = max(first, first + int(speech[0]) - margin)
            end = min(last, first + int(speech[-1]) + 1 + margin)
            if (end - start) * FRAME_SECONDS >= shortest:
                found.append((round(start * FRAME_SECONDS, 3), round(end * FRAME_SECONDS, 3)))
    return found


def pauses(waveform: Tensor, sample_rate: int, shortest: float = 0.15) -> Any:
    """Whether each whole frame of 10 ms is in a pause, ``(T',)`` bool.

    A pause is silence of at least ``shortest`` seconds, or of any length at the ends. The closure of a stop is
    silent too, but shorter.

    Example:
        >>> import torch
        >>> tone = torch.sin(torch.arange(1600) / 3)
        >>> int(pauses(torch.cat([torch.zeros(800), tone, torch.zeros(8000), tone]), 16000).sum())
        55
    """
    levels = levels_db(waveform, sample_rate)
    silent = levels <= (np.percentile(levels, _LOUDEST) if len(levels) else 0) - _BELOW_DB
    edges = np.flatnonzero(np.diff(silent)) + 1
    paused = np.zeros(len(silent), dtype=bool)
    for run in np.split(np.arange(len(silent)), edges):
        at_an_end = len(run) and (run[0] == 0 or run[-1] == len(silent) - 1)
        if len(run) and silent[run[0]] and (at_an_end or len(run) * FRAME_SECONDS >= shortest):
            paused[run] = True
    return paused


def levels_db(waveform: Tensor, sample_rate: int) -> Any:
    """Level of each whole frame of 10 ms in dB re full scale, ``(T',)`` float64."""
    hop = round(FRAME_SECONDS * sample_rate)
    frames = waveform[: len(waveform) // hop * hop].double().reshape(-1, hop)
    return (10 * torch.log10(frames.square().mean(dim=1) + 1e-12)).numpy()


def _cut(levels: Any, first: int, last: int, longest: int, side: int) -> list[tuple[int, int]]:
    if last - first <= longest:
        return [(first, last)]
    smooth = uniform_filter1d(levels[first:last], round(_PAUSE_SECONDS / FRAME_SECONDS), mode="nearest")
    middle = first + side + int(np.argmin(smooth[side : len(smooth) - side]))
    return _cut(levels, first, middle, longest, side) + _cut(levels, middle, last, longest, side)
