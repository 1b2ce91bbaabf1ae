import io

import pytest
import torch

from lightning_mi import mi_bound
from lightning_mi.reporting.run_state import RunState

KEY = ("encoder", "near")


def estimate(num=500, seed=0):
    z = torch.randn(num, 4, generator=torch.Generator().manual_seed(seed))
    return mi_bound(z, z + 0.5 * torch.randn(num, 4, generator=torch.Generator().manual_seed(9)), num_clusters=8)


def through_a_checkpoint(state):
    file = io.BytesIO()
    torch.save(state.state(), file)
    size = file.tell()
    file.seek(0)
    return RunState.from_state(torch.load(file, weights_only=True)), size


def test_state_of_a_large_validation_set_is_small_and_gives_the_same_gain():
    state = RunState(input=0.3, null=(0.001, 0.002))
    for epoch in range(3):
        layers = {(f"model.encoder.layers.{i}", "near"): estimate(20_000, epoch) for i in range(2)}
        state.update(epoch, 100 * epoch, layers)
    loaded, size = through_a_checkpoint(state)
    assert size < 100 * 1024
    other = estimate(20_000, seed=7)
    assert loaded.gain_of(other) == state.gain_of(other)
    assert (loaded.last, loaded.best, loaded.input, loaded.null) == (state.last, state.best, 0.3, (0.001, 0.002))
    assert list(loaded.history) == list(state.history)


def test_gain_is_over_the_best_so_far_and_not_over_the_last():
    first, second, third = (estimate(seed=seed) for seed in range(3))
    best = max((first, second), key=float)
    state = RunState()
    assert state.gain_of(first) is None
    state.update(0, 10, {KEY: first})
    state.update(1, 20, {KEY: second})
    assert state.gain_of(third) == pytest.approx(third.gain_over(best), abs=1e-5)
    assert state.last == second.bound


def test_no_gain_over_other_utterances():
    z = torch.randn(500, 4, generator=torch.Generator().manual_seed(0))
    others = mi_bound(z, z, num_clusters=8, groups=torch.arange(500) + 10_000)
    state = RunState()
    state.update(0, 10, {KEY: estimate()})
    assert state.gain_of(others) is None


def test_history_starts_with_the_untrained_module_if_it_is_the_same_on_the_same_utterances():
    z = torch.randn(500, 4, generator=torch.Generator().manual_seed(0))
    others = mi_bound(z, z, num_clusters=8, groups=torch.arange(500) + 10_000)
    for module_id, before, expected in ((1, estimate(), [-1, 0]), (2, estimate(), [0]), (1, others, [0])):
        state = RunState(untrained=(1, {KEY: before}))
        first = estimate(seed=1)
        state.start_from_untrained(module_id, first)
        state.update(0, 10, {KEY: first})
        assert [each.epoch for each in state.history] == expected
        assert state.untrained is None


def test_steps_that_fall_begin_another_history():
    state = RunState()
    for step in (10, 20, 5):
        state.update(0, step, {KEY: estimate()})
    assert [each.step for each in state.history] == [5]


def test_a_checkpoint_from_before_there_was_a_null_control():
    state = RunState()
    state.update(0, 10, {KEY: estimate()})
    old = state.state()
    del old["null"]
    assert RunState.from_state(old).null is None
