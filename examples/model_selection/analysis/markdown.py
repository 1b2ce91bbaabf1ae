"""Markdown: tables, and numbers with their intervals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lightning_mi.examples.model_selection.analysis.statistics import Floats, interval


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table.

    Example:
        >>> table(["score", "value"], [["a", "1"]])
        ['| score | value |', '|---|---|', '| a | 1 |']
    """
    return [_row(header), "|---" * len(header) + "|", *(_row(row) for row in rows)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def with_interval(value: float, draws: Floats, how: str = "{:+.2f}", factor: float = 1.0) -> str:
    """A value and the 95 % interval of its bootstrap draws ``(times,)``, in one format.

    Example:
        >>> import numpy as np
        >>> with_interval(0.5, np.linspace(0.4, 0.6, 41))
        '+0.50 [+0.41, +0.59]'
    """
    low, high = interval(draws)
    middle, low_text, high_text = (how.format(factor * float(each)) for each in (value, low, high))
    return f"{middle} [{low_text}, {high_text}]"
