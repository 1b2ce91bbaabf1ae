"""Registry of the scores without labels. A new kind of score is a file beside this one and a line in SOURCES."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any

from lightning_mi.examples.model_selection.scores.baselines import baseline_scores
from lightning_mi.examples.model_selection.scores.bounds import bound_scores
from lightning_mi.examples.model_selection.scores.embed import Embedded
from lightning_mi.examples.model_selection.scores.score import Score, Wanted
from lightning_mi.examples.model_selection.scores.segments import Segments

SOURCES: tuple[Callable[[Any, Any], Wanted], ...] = (bound_scores, baseline_scores)
"""Functions of embeddings and segments; neither is looked at before a score is computed."""


def compute_scores(embedded: Embedded, segments: Segments, known: Container[str] = ()) -> dict[str, Score]:
    """Scores without labels of one checkpoint, by name.

    Args:
        embedded: Its embeddings of ``segments``, finite.
        segments: The segments.
        known: Names that need not be scored.
    """
    return {
        name: score()
        for source in SOURCES
        for name, score in source(embedded, segments).items()
        if name not in known
    }


def score_names() -> set[str]:
    """Names of all that :func:`compute_scores` computes."""
    return {name for source in SOURCES for name in source(None, None)}
