"""Scores are computed once each, by name."""

import math

import pytest
import torch

pytest.importorskip("torchaudio")
pytest.importorskip("sklearn")

from lightning_mi.examples.model_selection.scores.conditions import CONDITIONS
from lightning_mi.examples.model_selection.scores.embed import POOLINGS, Embedded
from lightning_mi.examples.model_selection.scores.registry import compute_scores, score_names
from lightning_mi.examples.model_selection.scores.score import Score, as_json


def test_known_scores_are_not_computed_again():
    pooled = {
        (name, how): torch.randn(40, len(c.segments), 3) for name, c in CONDITIONS.items() for how in POOLINGS
    }
    embedded = Embedded(pooled, torch.randn(40, 4, 3))
    wanted = {"RankMe(frames)", "LiDAR(augmentations of a segment)", "clusters(silhouette, 32)"}
    found = compute_scores(embedded, None, known=score_names() - wanted)
    assert set(found) == wanted
    assert 1 <= found["RankMe(frames)"].value <= 3 + 1e-4
    assert math.isnan(found["RankMe(frames)"].stderr)


def test_scores_are_plain_values():
    assert as_json({"a": Score(1.0, 0.5)}) == {"a": {"value": 1.0, "stderr": 0.5}}
