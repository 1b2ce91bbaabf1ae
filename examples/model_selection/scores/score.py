"""Value of a score, and its standard error."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Score:
    """One score of one checkpoint, in nats if it is a bound.

    Attributes:
        value: Higher is meant to be better.
        stderr: Its standard error; NaN if the score has none.
    """

    value: float
    stderr: float = math.nan


Wanted = dict[str, Callable[[], Score]]
"""How each score is computed, by its name; nothing is computed before it is called."""


def as_json(scores: dict[str, Score]) -> dict[str, dict[str, float]]:
    """Plain values."""
    return {name: asdict(score) for name, score in scores.items()}
