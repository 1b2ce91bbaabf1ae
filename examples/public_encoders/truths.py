"""What an encoder's taps are worth: accuracy of linear probes for phones, voices and languages."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from lightning_mi.examples.model_selection.corpora.splits import LEFT_OUT
from lightning_mi.examples.model_selection.probes import probe_accuracy
from lightning_mi.examples.public_encoders.embed import ALIGNED, ProbeSpeech

PHONES, VOICES, LANGUAGE = "phones", "voices", "language"
TASKS = (PHONES, VOICES, LANGUAGE)
_FEWEST = 30  # frames of a phone in each fold
_PHONES_OF = {
    "fr-fr/June": 0,
    "es/stamps": 0,
    "ru/IvrvoiceRU": 0,
    "fr-fr/stamps": 1,
    "es/Allison": 1,
    "ru/stamps": 1,
}
"""Folds of eSpeak's phones, by speaker.

Each has telephone speech and wide-band speech: a probe that is fitted to one of them alone is, on the quick
encoders, hardly better than chance on the other. The game's actors are left out: even on other sentences of the
same actor, phones of these labels are recognised half as often as for the rest.
"""
_TESTED = (*ALIGNED["espeak"][1], "it/Paola")  # speakers that languages are tested on; one of each
_LANGUAGES = {name.split("/")[0] for name in _TESTED}


def tap_accuracies(found: dict[str, Tensor], tap: str, spoken: ProbeSpeech) -> dict[str, float]:
    """Accuracies of one tap: ``phones`` is the mean of those with the labels of either aligner."""
    accuracies: dict[str, float] = {}
    for aligner, phones in spoken.phones.items():
        # Length and palatalisation are written differently from language to language.
        classes = np.array([symbol.rstrip("ːʲ") for symbol in phones.tolist()])
        frames = found[f"{tap}/{aligner}"].double().numpy()
        folds: Any = spoken.folds[aligner]
        if aligner == "espeak":
            framed = [spoken.speakers[number] for number in spoken.times[aligner][:, 0].astype(int)]
            folds = np.array([_PHONES_OF.get(owner, LEFT_OUT) for owner in framed])
        accuracies[f"phones ({aligner})"] = probe_accuracy(frames, classes, folds, fewest=_FEWEST)
    windows = found[f"{tap}/voices"].double().numpy()
    each = len(windows) // len(spoken.for_voices)
    owners = np.repeat([spoken.speakers[number] for number in spoken.for_voices], each)
    turns = np.concatenate([np.arange((owners == owner).sum()) // each % 2 for owner in dict.fromkeys(owners)])
    languages = np.array([owner.split("/")[0] for owner in owners])
    tested = np.isin(owners, _TESTED).astype(np.int64)
    tested[~np.isin(languages, list(_LANGUAGES))] = LEFT_OUT
    voices = np.array([owner if "Allison" not in owner else "Allison" for owner in owners])
    return {
        PHONES: float(np.mean(list(accuracies.values()))),
        VOICES: probe_accuracy(windows, voices, turns),
        LANGUAGE: probe_accuracy(windows, languages, tested),
        **accuracies,
    }
