import io

import pytest
import torch

from lightning_mi import MIEstimate, mi_bound
from lightning_mi.estimator.group_scores import GroupScores
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
    assert (loaded.last, loaded.input, loaded.null) == (state.last, 0.3, (0.001, 0.002))
    assert loaded.reference_epochs == state.reference_epochs > 0
    assert list(loaded.history) == list(state.history)


def scored(mean, num=400, noise=0.2, groups=None):
    """An estimate whose pairs score ``mean`` and a little else at every validation."""
    groups = torch.arange(num) if groups is None else groups
    scores = GroupScores.of_rows(groups, mean + noise * torch.randn(num), num // 2)
    bound = float(scores.totals.sum() / num)
    return MIEstimate(bound, scores.stderr(), 3.0, 3.0 - bound, 3.0, 8, 8, num, num, scores)


def updated(*estimates):
    state = RunState()
    for epoch, each in enumerate(estimates):
        state.update(epoch, 10 * epoch, {KEY: each})
    return state


def test_gain_is_over_the_mean_since_the_last_significant_gain():
    low, first, second, third = scored(0.5), *(scored(1.0) for _ in range(3))
    state = RunState()
    assert state.gain_of(low) is None
    state = updated(low, first, second)
    mean = (float(first) + float(second)) / 2
    assert state.reference_epochs == 2
    assert state.gain_of(third)[0] == pytest.approx(float(third) - mean, abs=1e-6)
    assert state.last == second.bound


def test_a_significant_loss_does_not_lower_the_reference():
    state = updated(scored(1.0), scored(1.0), scored(0.2), scored(0.2))
    assert state.reference_epochs == 2
    assert state.gain_of(scored(0.6))[0] == pytest.approx(-0.4, abs=0.05)


def test_few_false_alarms_on_a_plateau_and_no_pull_below_0():
    """The maximum of 50 equal epochs is above their mean: against it a quarter of them read as worse."""
    alarms, gains = 0, []
    for _ in range(8):
        state = RunState()
        for epoch in range(50):
            found = scored(1.0)
            gain = state.gain_of(found)
            if gain is not None:
                alarms += gain[0] < -2 * gain[1]
                gains.append(gain[0] / gain[1])
            state.update(epoch, epoch, {KEY: found})
    assert alarms / len(gains) < 0.05
    assert abs(sum(gains) / len(gains)) < 0.35


def test_pairs_that_are_lost_in_one_epoch_stay_in_the_reference():
    state = updated(scored(1.0), scored(1.0, num=390), scored(1.0))
    assert (state.reference_epochs, len(state.reference.groups)) == (3, 400)


def test_other_data_start_the_reference_anew():
    state = updated(scored(1.0), scored(1.0), scored(0.2, groups=torch.arange(400) + 10_000))
    assert state.reference_epochs == 1
    assert state.reference.groups.min() == 10_000


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
