"""Audio fingerprints: min-hash sketches that recognise a recording in another gain, codec or cut."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from lightning_mi.hashing import mix

FINGERPRINT_SIZE = 64  # hashes of an utterance
NO_HASH = -1  # padding

_WINDOW_SECONDS, _FEWEST_SAMPLES = 0.064, 64
_HOPS = 4  # in a window
_NUM_BANDS = 17
_HIGHEST = 4000.0  # Hz, which narrow channels and codecs keep
_SMOOTHED = 20  # frames, 0.32 s, averaged, so that the start of a frame matters little
_LAG = 6  # frames, 0.1 s, of a change, and between the two halves of a sub-fingerprint
_QUIET = 1e-4  # of the loudest frame's power, below which there is only noise, -40 dB
_TINY = 1e-30
_LONGEST_SECONDS = 60.0  # of an utterance; the rest is ignored
_SAMPLES_AT_ONCE = 1 << 20  # bounds the spectrograms to a few tens of megabytes


def fingerprint(waveforms: Tensor, lengths: Tensor, sample_rate: float) -> Tensor:
    """The 64 lowest hashes of the sub-fingerprints of each utterance's first minute.

    A sub-fingerprint has 32 bits, which encode for each two neighbouring bands of the spectrum whether their ratio
    rises or falls, at two moments. One begins every 16 ms. Utterances that share a stretch of sound share many of
    their lowest hashes, and others next to none. Gain, noise 30 dB below the speech, narrow-band codecs and cuts
    leave enough of them.

    Args:
        waveforms: ``(B, T)`` floating-point, padded at the end.
        lengths: ``(B,)`` int64, in samples.
        sample_rate: Sampling rate in Hz.

    Returns:
        ``(B, 64)`` int64 on the device of ``waveforms``, ascending, padded with -1 if an utterance
        (short, or silent) has fewer.

    Source:
        Haitsma and Kalker, "A highly robust audio fingerprinting system", ISMIR 2002, for the bits; Broder, "On
        the resemblance and containment of documents", SEQUENCES 1997, for keeping the lowest hashes.

    Example:
        >>> import torch
        >>> x = torch.randn(1, 32000, generator=torch.Generator().manual_seed(0))
        >>> it, quieter, other = (fingerprint(y, torch.tensor([32000]), 16000) for y in (x, 0.3 * x, x.flip(1)))
        >>> bool(torch.isin(quieter, it).sum() > 50), bool(torch.isin(other, it).sum() < 2)
        (True, True)
    """
    most = round(_LONGEST_SECONDS * sample_rate)
    waveforms, lengths = waveforms[:, :most], lengths.to(waveforms.device).clamp(max=most)
    parts = []
    for rows in _chunks(*waveforms.shape):
        parts.append(_fingerprint(waveforms[rows].float(), lengths[rows], sample_rate))
    return torch.cat(parts) if parts else lengths.new_empty(0, FINGERPRINT_SIZE)


def _chunks(num_rows: int, num_samples: int) -> Iterator[slice]:
    step = max(1, _SAMPLES_AT_ONCE // max(1, num_samples))
    return (slice(start, start + step) for start in range(0, num_rows, step))


def _fingerprint(x: Tensor, lengths: Tensor, sample_rate: float) -> Tensor:
    window = max(round(_WINDOW_SECONDS * sample_rate), _FEWEST_SAMPLES)
    hop = window // _HOPS
    shortest = window + (_SMOOTHED - 1 + 2 * _LAG) * hop
    none = torch.full((len(x), FINGERPRINT_SIZE), NO_HASH, device=x.device)
    if x.shape[1] < shortest:
        return none
    power = _band_powers(x, window, hop, sample_rate)
    levels = power.clamp(min=_TINY).log()
    ratios = levels[..., 1:] - levels[..., :-1]
    rises = ratios[:, _LAG:] > ratios[:, :-_LAG]
    halves = (rises.long() << torch.arange(_NUM_BANDS - 1, device=x.device)).sum(dim=2)
    sub_fingerprints = (halves[:, :-_LAG] << (_NUM_BANDS - 1)) + halves[:, _LAG:]
    counts = (lengths - shortest) // hop + 1
    inside = torch.arange(sub_fingerprints.shape[1], device=x.device) < counts[:, None]
    loudness = power.sum(dim=2)
    loudness = loudness.unfold(1, 2 * _LAG + 1, 1).amin(dim=2).where(inside, 0)
    sounding = inside & (loudness > _QUIET * loudness.amax(dim=1, keepdim=True)) & torch.isfinite(loudness)
    hashes = mix(sub_fingerprints) & torch.iinfo(torch.int64).max
    hashes = hashes.where(sounding, torch.iinfo(torch.int64).max).sort(dim=1).values
    # Of equal ones the first.
    hashes[:, 1:] = hashes[:, 1:].where(hashes[:, 1:] != hashes[:, :-1], torch.iinfo(torch.int64).max)
    lowest = hashes.sort(dim=1).values[:, :FINGERPRINT_SIZE]
    none[:, : lowest.shape[1]] = lowest.where(lowest < torch.iinfo(torch.int64).max, NO_HASH)
    return none


def _band_powers(x: Tensor, window: int, hop: int, sample_rate: float) -> Tensor:
    """Power of each band around each frame, ``(B, frames, bands)``, less the frames at the ends."""
    frames = x.unfold(1, window, hop) * torch.hann_window(window, dtype=torch.float32, device=x.device)
    spectrum = torch.fft.rfft(frames).abs().square()
    edges = _edges(window, sample_rate)
    bands = torch.stack([spectrum[..., a:b].sum(dim=2) for a, b in pairwise(edges)], dim=1)
    weights = torch.hann_window(_SMOOTHED + 2, dtype=torch.float32, device=x.device)[1:-1]
    smooth = torch.nn.functional.conv1d(bands.flatten(0, 1)[:, None], (weights / weights.sum())[None, None])
    return smooth.unflatten(0, bands.shape[:2])[:, :, 0].transpose(1, 2)


def _edges(window: int, sample_rate: float) -> list[int]:
    """Bins between which bands lie, equally wide on the mel scale, but at least a bin each."""
    top = _mel(min(_HIGHEST, sample_rate / 2))
    edges = [1]
    for number in range(1, _NUM_BANDS + 1):
        hertz = 700 * (math.exp(top * number / _NUM_BANDS) - 1)
        edges.append(max(edges[-1] + 1, round(hertz * window / sample_rate)))
    return edges


def _mel(hertz: float) -> float:
    return math.log(1 + hertz / 700)
