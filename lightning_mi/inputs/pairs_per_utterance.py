"""Pairs per utterance: the default number, as many as fill a few thousand pairs."""

from __future__ import annotations

MOST_PAIRS_PER_UTTERANCE = 4  # what a further pair of the same utterance adds falls with its number
MANY_PAIRS = 4096  # which pairs beyond the utterances' first ones fill, and never exceed


def default_pairs_per_utterance(num_utterances: int, max_pairs: int) -> int:
    """Default number of pairs from one utterance, 1 to 4: as many as about fill 4096 pairs, or ``max_pairs`` if
    that is less.

    Example:
        >>> [default_pairs_per_utterance(num, max_pairs=4096) for num in (500, 1500, 2000, 5000)]
        [4, 3, 2, 1]
        >>> default_pairs_per_utterance(500, max_pairs=1000)
        2
    """
    wanted = round(min(MANY_PAIRS, max_pairs) / max(1, num_utterances))
    return min(MOST_PAIRS_PER_UTTERANCE, max(1, wanted))
