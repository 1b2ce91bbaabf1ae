"""Which utterances a probe is fitted to and which it is tested on: two halves, and each is tested once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..data.utterances import Utterance

LEFT_OUT = -1

Halving = Callable[[Sequence[Utterance]], Any]
"""Utterances -> ``(U,)`` int64: 0 or 1, the half that each is in, or :data:`LEFT_OUT`."""


def by_voice(utterances: Sequence[Utterance]) -> Any:
    """Every other voice, in the order of their names: the probe is tested on voices that it has not met."""
    voices = sorted({utterance.voice for utterance in utterances})
    return np.array([voices.index(utterance.voice) % 2 for utterance in utterances], dtype=np.int64)


def within_voice(utterances: Sequence[Utterance]) -> Any:
    """Every other utterance of each voice."""
    seen: dict[str, int] = {}
    halves = []
    for utterance in utterances:
        halves.append(seen.get(utterance.voice, 0) % 2)
        seen[utterance.voice] = seen.get(utterance.voice, 0) + 1
    return np.array(halves, dtype=np.int64)


def by_second_voice(utterances: Sequence[Utterance]) -> Any:
    """In each language, the first voice by name and the second, one in each half; languages that have one voice
    only are left out, for a probe would tell them by the voice."""
    voices: dict[str, set[str]] = {}
    for utterance in utterances:
        voices.setdefault(utterance.language, set()).add(utterance.voice)
    order = {language: sorted(names) for language, names in voices.items() if len(names) > 1}
    return np.array(
        [
            order[each.language].index(each.voice) % 2 if each.language in order else LEFT_OUT
            for each in utterances
        ],
        dtype=np.int64,
    )
