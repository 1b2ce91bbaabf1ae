"""Pairs for the report on the number of clusters are drawn by whole utterances."""

import pytest
import torch

pytest.importorskip("torchaudio")
pytest.importorskip("sklearn")

from lightning_mi.examples.model_selection.analysis.clusters import draw_rows


def test_pairs_of_an_utterance_are_drawn_together():
    groups = torch.arange(100).repeat_interleave(2)
    rows = draw_rows(groups, 50, draw=0)
    assert len(rows) == 50
    assert (groups[rows].unique(return_counts=True)[1] == 2).all()
    assert not torch.equal(rows, draw_rows(groups, 50, draw=1))
    assert draw_rows(groups, None, draw=0).tolist() == list(range(200))
