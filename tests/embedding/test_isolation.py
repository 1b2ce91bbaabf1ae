import random

import numpy as np
import pytest
import torch
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
def test_leaves_no_trace(inference):
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
