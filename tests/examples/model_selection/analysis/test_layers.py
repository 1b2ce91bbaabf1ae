"""Which layer a score takes, by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torchaudio")
pytest.importorskip("sklearn")

import scipy.stats

from lightning_mi.examples.model_selection.analysis.layers import (
    Layers,
    choice_lines,
    losses,
    ordered_pairs,
    zoo_lines,
)
from lightning_mi.examples.model_selection.corpora.base import PHONE, SPEAKER


def layers(scores, phones, degenerate="", name="run_0"):
    run = SimpleNamespace(name=name, objective="apc", degenerate=degenerate)
    accuracy = np.array(phones)
    return Layers(
        SimpleNamespace(run=run, step=1), np.array(scores, dtype=float), {PHONE: accuracy, SPEAKER: accuracy}
    )


def test_which_layer_is_taken():
    of_three = layers([[1, 5], [3, 5], [2, 6]], [0.30, 0.34, 0.345])
    # The first score takes the middle layer, the second the top; lowest, output, any.
    assert losses(of_three, PHONE) == pytest.approx([0.005, 0, 0.045, 0, 0.345 - 0.985 / 3])
    # Middle over lowest and top over lowest are asked; middle and top are too close.
    right, pairs = ordered_pairs(of_three, PHONE)
    assert pairs == 2
    assert right.tolist() == [2, 1.5]


def test_layers_of_degenerate_runs_and_single_ones_choose_nothing():
    every = [
        layers([[1.0], [2.0]], [0.2, 0.1]),
        layers([[1.0], [2.0]], [0.1, 0.9], degenerate="noise", name="run_1"),
    ]
    every.append(layers([[4.0]], [0.9], name="run_2"))
    table = choice_lines(["score"], every, PHONE, times=10)
    assert table[0].startswith("1 normal checkpoints have several layers, 2 in all; 1 pairs")
    assert "| the highest of `score` | 10.0 [10.0, 10.0] | 0 % [0 %, 0 %] |" in table
    assert "| always the lowest | 0.0 [0.0, 0.0] | - |" in table
    # Over all models: outputs rank 2, 2, 4 by 0.1, 0.9, 0.9; highest layers the same by 0.2, 0.9, 0.9.
    (row,) = zoo_lines(["score"], every, PHONE, times=10)[2:]
    expected = scipy.stats.spearmanr([2, 2, 4], [0.1, 0.9, 0.9]).statistic
    assert row.startswith(f"| `score` | {expected:+.2f} [")
