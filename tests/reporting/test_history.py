"""The history of a run: what it remembers, how small it stays, and that checkpoints carry it."""

import io
import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_mi.reporting.history import History
from tests.helpers.histories import estimate, history

KEY = ("encoder", "near")


def saved_bytes(state):
    """Of what a checkpoint grows by."""
    sizes = []
    for content in ({}, {"history": state}):
        file = io.BytesIO()
        torch.save(content, file)
        sizes.append(file.tell())
    return sizes[1] - sizes[0]


def test_what_is_remembered_of_an_estimate():
    made = History()
    made.append(3, 70, {KEY: estimate(1.23456, 0.0321, 4.0, 64)}, {"null": estimate(0.0, 0.01)})
    (validation,) = made
    summary = validation.primary
    assert (validation.epoch, validation.step, validation.key) == (3, 70, KEY)
    assert summary.bound == pytest.approx(1.23456, abs=5e-5)
    assert summary.stderr == pytest.approx(0.0321)
    assert summary.entropy == pytest.approx(4.0)
    assert (summary.num_clusters, summary.active_clusters) == (64, 61)
    assert summary.ceiling == math.log(64)
    assert summary.effective_clusters == pytest.approx(math.exp(4.0))
    assert validation.references["null"].bound == 0.0


def test_the_primary_is_the_first_and_layers_are_those_at_its_gap():
    made = History()
    keys = [("b", "near"), ("b", "far"), ("a", "near")]
    made.append(0, 10, {key: estimate(0.1 * i) for i, key in enumerate(keys)})
    assert made.last.key == ("b", "near")
    assert {name: round(summary.bound, 4) for name, summary in made.last.layers.items()} == {"b": 0.0, "a": 0.2}


def test_best_is_the_first_of_equals():
    made = History()
    for epoch, bound in enumerate([0.5, 0.9, 0.9, 0.7]):
        made.append(epoch, epoch, {KEY: estimate(bound)})
    assert made.best.epoch == 1
    assert made.last.epoch == 3


def test_references_tell_where_they_were_measured():
    made = History()
    made.append(0, 1, {KEY: estimate(1.0)}, {"input baseline": estimate(0.5), "null": estimate(0.0)})
    made.append(1, 2, {KEY: estimate(1.0)}, {"null": estimate(0.01)})
    found = made.references()
    assert [position for position, _ in found["input baseline"]] == [0]
    assert [(position, round(summary.bound, 4)) for position, summary in found["null"]] == [(0, 0.0), (1, 0.01)]


def test_a_validation_again_at_the_same_step_takes_the_place_of_the_first():
    made = History()
    made.append(0, 10, {KEY: estimate(1.0)})
    made.append(0, 10, {KEY: estimate(2.0)})
    assert [round(each.primary.bound, 4) for each in made] == [2.0]


@pytest.mark.parametrize("layers", [1, 12])
def test_it_comes_back_from_a_checkpoint_and_goes_on(layers):
    before = history(8, layers)
    before.append(8, 1000, {KEY: estimate(0.3)}, {"null": estimate(-0.001), "input baseline": estimate(0.2)})
    file = io.BytesIO()
    torch.save(before.state(), file)
    file.seek(0)
    after = History.from_state(torch.load(file, weights_only=True))
    assert list(after) == list(before)
    for made in (before, after):
        made.append(9, 1100, {KEY: estimate(0.4)})
    assert list(after) == list(before)


BOUNDS = st.builds(estimate, st.floats(0, 5), st.floats(0, 1), st.floats(0, 5), st.integers(4, 128))
NAMES = st.text(max_size=4)
ESTIMATES = st.dictionaries(st.tuples(NAMES, NAMES), BOUNDS, min_size=1, max_size=3)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 99), ESTIMATES, st.dictionaries(NAMES, BOUNDS, max_size=2)),
        max_size=8,
    ),
    st.integers(0, 8),
)
def test_any_history_is_the_same_after_a_resume_and_goes_on_the_same(validations, resumed_after):
    """Whatever layers, gaps and references are called, and whether each validation has all of them or not."""
    whole, parts = History(), History()
    for number, (wait, estimates, references) in enumerate(validations):
        if number == resumed_after:
            parts = History.from_state(parts.state())
        for made in (whole, parts):
            step = wait + (made.last.step if len(made) else 0)
            made.append(number, step, estimates, references)
    restored = History.from_state(parts.state())
    assert list(restored) == list(parts) == list(whole)
    assert [list(each.summaries) for each in restored] == [list(estimates) for _, estimates, _ in validations]
    assert restored.state() == whole.state()


def test_the_state_is_plain():
    def leaves(value):
        if isinstance(value, dict):
            return [leaf for each in value.values() for leaf in leaves(each)]
        return [leaf for each in value for leaf in leaves(each)] if isinstance(value, list) else [value]

    made = history(5, 3)
    made.append(9, 9000, {KEY: estimate(torch.tensor(1.0).item())})
    assert {type(leaf) for leaf in leaves(made.state())} == {int, str}


@pytest.mark.parametrize(("epochs", "layers"), [(1500, 1), (400, 12), (60, 96)])
def test_it_stays_small_and_keeps_first_best_and_last(epochs, layers):
    made = History()
    best = epochs // 3
    for epoch in range(epochs):
        names = [f"model.wav2vec2.encoder.transformer.layers.{i}" for i in range(layers)]
        bound = 1.5 if epoch == best else 1.0 + 0.1 * math.sin(epoch)
        made.append(
            epoch, 250 * epoch, {(name, "near"): estimate(bound) for name in names}, {"null": estimate(0.0)}
        )
    assert saved_bytes(made.state()) <= 25_000
    kept = [validation.epoch for validation in made]
    assert {0, best, epochs - 1} <= set(kept)
    assert kept == sorted(kept)
    assert len(kept) > 5
    # Spread over the run: no hole is much larger than the others.
    holes = [b - a for a, b in pairwise(kept)]
    assert max(holes) <= 4 * epochs / len(kept)


def test_a_resumed_run_thins_out_the_same_validations():
    """Half of a run, then the rest of it after a resume, is the whole run."""
    layers, epochs, half = 12, 300, 150
    bounds = [1 + math.sin(epoch) for epoch in range(epochs)]

    def append(made, some):
        for epoch in some:
            made.append(epoch, 100 * epoch, {(f"l{i}", "near"): estimate(bounds[epoch]) for i in range(layers)})

    whole, first = History(), History()
    append(whole, range(epochs))
    append(first, range(half))
    resumed = History.from_state(first.state())
    append(resumed, range(half, epochs))
    assert list(resumed) == list(whole)
    assert len(whole) < half


def test_a_small_history_keeps_first_best_and_last():
    made = History(max_summaries=3)
    for epoch, bound in enumerate([0.1, 0.2, 0.9, 0.3, 0.4, 0.5]):
        made.append(epoch, epoch, {KEY: estimate(bound)})
    assert [each.epoch for each in made] == [0, 2, 5]


def test_bad_arguments_say_what_to_change():
    with pytest.raises(ValueError, match="`max_summaries` must be at least 3, got 2"):
        History(max_summaries=2)
    with pytest.raises(ValueError, match="`estimates` must hold at least the primary's"):
        History().append(0, 0, {})
    with pytest.raises(ValueError, match=r"\('encoder', 'near'\) must be finite, got \(nan"):
        History().append(0, 0, {KEY: estimate(math.nan)})
    made = history(2)
    with pytest.raises(ValueError, match="`step` must not fall, got 5 after 200"):
        made.append(2, 5, {KEY: estimate(1.0)})


def test_an_interval_of_few_groups_is_wider_and_survives_a_checkpoint():
    made = History()
    for epoch, groups in enumerate((5, 300)):
        made.append(epoch, epoch, {("a", "near"): replace(estimate(1.0), stderr=0.1, num_groups=groups)})
    few, many = (each.primary for each in History.from_state(made.state()))
    assert few.interval == pytest.approx((1 - 0.3307, 1 + 0.3307), abs=1e-4)
    assert many.interval == pytest.approx((0.8, 1.2))
    assert [few, many] == [each.primary for each in made]
