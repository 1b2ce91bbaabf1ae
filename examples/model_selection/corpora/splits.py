"""Two-fold splits of utterances for the probes: by speaker, within speaker, or one speaker of each language."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lightning_mi.examples.data.utterances import Utterance

LEFT_OUT = -1

Split = Callable[[Sequence[Utterance]], Any]
"""Utterances -> ``(U,)`` int64: the fold, 0 or 1, of each, or :data:`LEFT_OUT`. Each fold is tested once."""


def by_speaker(utterances: Sequence[Utterance]) -> Any:
    """Every other speaker, in the order of their names: the probe is tested on unseen speakers."""
    speakers = sorted({utterance.voice for utterance in utterances})
    return np.array([speakers.index(utterance.voice) % 2 for utterance in utterances], dtype=np.int64)


def within_speaker(utterances: Sequence[Utterance]) -> Any:
    """Every other utterance of each speaker."""
    seen: dict[str, int] = {}
    folds = []
    for utterance in utterances:
        folds.append(seen.get(utterance.voice, 0) % 2)
        seen[utterance.voice] = seen.get(utterance.voice, 0) + 1
    return np.array(folds, dtype=np.int64)


def by_second_speaker(utterances: Sequence[Utterance]) -> Any:
    """In each language the first speaker by name in one fold and the second in the other.

    Languages with one speaker are left out, because a probe could recognise them by the speaker.
    """
    speakers: dict[str, set[str]] = {}
    for utterance in utterances:
        speakers.setdefault(utterance.language, set()).add(utterance.voice)
    order = {language: sorted(names) for language, names in speakers.items() if len(names) > 1}
    return np.array(
        [
            order[each.language].index(each.voice) % 2 if each.language in order else LEFT_OUT
            for each in utterances
        ],
        dtype=np.int64,
    )
