"""What a module's forward pass may leave behind, and that nothing of it is left."""

import copy
import random
from collections import deque

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lightning_mi.embedding.isolation import isolated


class Untidy(nn.Module):
    """Everything that a forward pass may leave behind."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.frozen = nn.Dropout().eval()
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.register_buffer("large", torch.zeros(3, 1 << 19))
        self.calls = 0
        self.seen = []
        self.names = {"a": 1}
        self.cache = None
        self.running = torch.zeros(3)

    def forward(self, x):
        self.steps += 1
        self.large += 1
        self.calls += 1
        self.seen.append(x)
        self.names["b"] = 2
        self.cache = x
        self.extra = x
        self.running += 1
        self.register_buffer("late", x)
        nn.functional.batch_norm(x, self.norm.running_mean, self.norm.running_var, training=True)
        return x + torch.rand_like(x) * np.random.rand() * random.random()  # noqa: NPY002


def snapshot(model):
    return (
        {name: x.clone() for name, x in model.state_dict().items()},
        [m.training for m in model.modules()],
        (model.calls, list(model.seen), dict(model.names), model.cache, model.running.clone()),
        set(vars(model)),
    )


def assert_same(a, b):
    assert a[0].keys() == b[0].keys()
    assert all(torch.equal(a[0][name], b[0][name]) for name in a[0])
    assert a[1] == b[1]
    assert a[2][:4] == b[2][:4]
    assert torch.equal(a[2][4], b[2][4])
    assert a[3] == b[3]


@pytest.mark.parametrize("inference", [False, True])
def test_whatever_a_forward_pass_changes_is_restored(inference):
    model = Untidy().train()
    before = snapshot(model)
    identities = {name: id(x) for name, x in model.named_buffers()}
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    with torch.inference_mode(inference), isolated(model, seed=5):
        model(torch.randn(6, 4))
    assert_same(before, snapshot(model))
    assert {name: id(x) for name, x in model.named_buffers()} == identities
    assert random.getstate() == states[0]
    assert (np.random.get_state()[1] == states[1]).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])
    model(torch.randn(6, 4)).sum()  # and the model still works, training included
    assert model.calls == 1


def test_the_body_sees_eval_mode_no_gradients_and_the_same_random_numbers():
    model = Untidy().train()
    model.frozen.train(False)
    draws = []
    for _ in range(2):
        with isolated(model, seed=5):
            assert not any(m.training for m in model.modules())
            draws.append((model(torch.zeros(2, 4)), torch.is_grad_enabled()))
        torch.rand(3)
    assert torch.equal(draws[0][0], draws[1][0])
    assert draws[0][1] is False
    assert torch.is_grad_enabled()
    assert model.training
    assert not model.frozen.training


def test_an_error_leaves_no_trace_either():
    model = Untidy().train()
    before, state = snapshot(model), torch.get_rng_state()
    with pytest.raises(RuntimeError, match="boom"), isolated(model, seed=0):
        model(torch.randn(6, 4))
        raise RuntimeError("boom")
    assert_same(before, snapshot(model))
    assert torch.equal(torch.get_rng_state(), state)


LEAVES = st.one_of(st.integers(), st.text(max_size=3), st.builds(torch.full, st.just((2,)), st.floats(-9, 9)))


def containers(inside):
    lists = st.lists(inside, max_size=3)
    return st.one_of(lists, lists.map(deque), st.dictionaries(st.text(max_size=2), inside, max_size=3))


def spoil(value, random):
    """Change everything in ``value`` in place, as far down as it goes."""
    if isinstance(value, torch.Tensor):
        value.add_(1)
    elif isinstance(value, dict):
        for entry in list(value.values()):
            spoil(entry, random)
        entries = random.sample(list(value.items()), len(value))
        value.clear()  # the order is state too
        value.update(entries)
        if random.random() < 0.5:
            value["new"] = value.pop(entries[0][0]) if entries else 0
    elif isinstance(value, (list, deque)):
        for entry in list(value):
            spoil(entry, random)
        random.shuffle(value)
        value.append("new")


def plain(value):
    """``value`` with lists in place of tensors, which can be compared."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return [(key, plain(entry)) for key, entry in value.items()]
    return [type(value), *map(plain, value)] if isinstance(value, (list, deque)) else value


def identities(value):
    entries = value.values() if isinstance(value, dict) else value if isinstance(value, (list, deque)) else []
    return [id(value), *(each for entry in entries for each in identities(entry))]


@settings(max_examples=40, deadline=None)
@given(
    st.one_of(LEAVES, *(containers(x) for x in (LEAVES, containers(LEAVES), containers(containers(LEAVES))))),
    st.randoms(use_true_random=False),
)
def test_nested_containers_are_the_same_objects_with_the_same_content(state, random):
    """Down to four containers inside one another, as far as `isolated` promises to look."""
    module = nn.Linear(2, 2)
    module.state = state
    before, objects = plain(copy.deepcopy(state)), identities(state)
    with isolated(module, seed=0):
        spoil(module.state, random)
        module.state = None
    assert module.state is state
    assert plain(state) == before
    assert identities(state) == objects
