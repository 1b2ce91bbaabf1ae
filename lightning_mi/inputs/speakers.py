"""Speakers that a validation batch names: the groups of its utterances, unless the user gives others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_mi.inputs.labels import number_of_text
from lightning_mi.inputs.structure import Leaf, vectors

_NAMES = ("speakerid", "speakerids", "speaker", "spkid", "spkids", "spk", "clientid")  # without underscores


def speakers_in_batch(parts: Sequence[Leaf], num_rows: int) -> Tensor | None:
    """The speaker of each utterance, from integers or strings of such a name (``speaker``, ``speaker_id``,
    ``speaker_ids``, ``spk``, ``spk_id``, ``client_id``); integers without a name are not guessed.

    Args:
        parts: All leaves of the batch.
        num_rows: Number of utterances.

    Returns:
        ``(B,)`` int64 on the host; strings are hashed. ``None`` if the batch names no speaker for each.

    Example:
        >>> from lightning_mi.inputs.structure import leaves
        >>> batch = {"wav": torch.ones(2, 800), "speaker_id": torch.tensor([19, 26])}
        >>> speakers_in_batch(list(leaves(batch)), 2)
        tensor([19, 26])
        >>> speakers_in_batch(list(leaves((torch.ones(2, 800), torch.tensor([19, 26])))), 2) is None
        True
    """
    named = [leaf for leaf in parts if leaf.name.replace("_", "").replace("-", "") in _NAMES]
    for leaf in vectors([leaf._replace(value=_as_number(leaf.value)) for leaf in named], num_rows):
        if not leaf.value.is_floating_point() and leaf.value.dtype != torch.bool:
            return leaf.value.to("cpu", torch.int64)
    return None


def _as_number(value: object) -> object:
    return number_of_text(value) if isinstance(value, str) else value
