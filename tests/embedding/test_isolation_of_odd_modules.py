"""Modules that hide state, or hold what cannot be compared: they are as before, and so is what lies behind them."""

import collections
import functools

import numpy as np
import pytest
import torch
from torch import nn

from lightning_mi.embedding.isolation import isolated
from tests.helpers.models import TinySpeechModel
from tests.helpers.run_callback import run_callback
from tests.helpers.speech import utterances

X = torch.randn(3, 8)


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0
        self.register_buffer("mean", torch.zeros(8))

    def forward(self, x):
        self.calls += 1
        self.mean.add_(x.mean(0))
        return x - self.mean


class Sparse(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("adjacency", torch.eye(8).to_sparse())
        self.register_buffer("nan", torch.tensor(float("nan")).expand(5))
        self.register_buffer("meta", torch.empty(3, device="meta"))
        self.nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])

    def forward(self, x):
        self.adjacency.mul_(2)
        return x @ self.adjacency.to_dense()


class Hides(nn.Module):
    """Its modules are in a list, in a dict and in its ``__dict__``."""

    def __init__(self):
        super().__init__()
        self.plain = [Counter()]
        self.named = {"teacher": nn.Sequential(Counter())}
        self.__dict__["own"] = Counter()

    def forward(self, x):
        return self.own(self.named["teacher"](self.plain[0](x)))

    def counters(self):
        return self.plain[0], self.named["teacher"][0], self.own


def run(module, x=X):
    with isolated(module, seed=0):
        return module(x)


class Keeps(nn.Module):
    """Counters in containers of all kinds."""

    def __init__(self):
        super().__init__()
        self.counter = collections.Counter(n=3)
        self.default = collections.defaultdict(list)
        self.ordered = collections.OrderedDict(n=0)
        self.inside = (torch.zeros(2), [0])
        self.array = np.zeros(3)
        self.parameters_in_a_list = [nn.Parameter(torch.zeros(2))]

    def forward(self, x):
        self.counter["n"] += 1
        self.default["n"].append(1)
        self.ordered["n"] += 1
        self.inside[0].add_(1)
        self.inside[1][0] += 1
        self.array += 1
        self.parameters_in_a_list[0].add_(1)
        return x


def test_containers_of_all_kinds_are_restored():
    module = Keeps()
    run(module)
    assert module.counter == {"n": 3}
    assert module.default == {}
    assert module.ordered == {"n": 0}
    assert not module.inside[0].any()
    assert module.inside[1] == [0]
    assert not module.array.any()
    assert not module.parameters_in_a_list[0].any()


def test_hidden_modules_are_restored_and_keep_their_mode():
    module = Hides()
    module.plain[0].eval()
    module.train()
    run(module)
    assert [counter.calls for counter in module.counters()] == [0, 0, 0]
    assert all(not counter.mean.any() for counter in module.counters())
    assert [counter.training for counter in module.counters()] == [False, True, True]


def test_what_cannot_be_compared_stops_nothing_behind_it():
    module = nn.Sequential(Sparse(), Counter())
    run(module)
    assert torch.equal(module[0].adjacency.to_dense(), torch.eye(8))
    assert module[1].calls == 0
    assert not module[1].mean.any()


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_scripted_and_traced_modules():
    linear = nn.Linear(8, 4)
    scripted = torch.jit.script(nn.Sequential(linear, nn.Dropout(), nn.BatchNorm1d(4)))
    traced = torch.jit.trace(nn.Linear(4, 2), torch.ones(1, 4))
    frozen = torch.jit.freeze(torch.jit.script(nn.Linear(2, 2).eval()))
    module = nn.Sequential(scripted, traced, frozen, nn.Dropout()).train()
    state = {name: x.clone() for name, x in module.state_dict().items()}
    found = run(module)
    torch.testing.assert_close(found, run(module))  # no dropout
    assert scripted.training
    assert module[3].training
    assert all(torch.equal(x, state[name]) for name, x in module.state_dict().items())


def test_gradients_are_put_aside():
    class Energy(nn.Linear):
        def forward(self, x):
            with torch.enable_grad():
                super().forward(x).sum().backward()
            return x

    module = Energy(8, 2)
    module.weight.grad = kept = torch.ones(2, 8)
    run(module)
    assert module.weight.grad is kept
    assert torch.equal(kept, torch.ones(2, 8))
    assert module.bias.grad is None


def test_what_a_function_caches_can_be_trained_with():
    @functools.lru_cache
    def positions(length):
        return torch.arange(length) / 10

    class Adds(nn.Linear):
        def forward(self, x):
            return super().forward(x) * positions(4)

    module = Adds(8, 4)
    with torch.inference_mode():
        run(module)
    module(X).sum().backward()
    assert module.weight.grad is not None


def test_a_large_tensor_that_forward_writes_to():
    class Queue(nn.Module):
        def __init__(self):
            super().__init__()
            self.queue = torch.zeros(1 << 21)

        def forward(self, x):
            self.queue += 1
            return x

    module = Queue()
    run(module)
    assert not module.queue.any()


def test_uninitialised_parameters_are_let_be():
    module = nn.Sequential(nn.LazyLinear(4), nn.LazyBatchNorm1d())
    with isolated(module, seed=0):
        pass
    assert nn.parameter.is_lazy(module[0].weight)


def test_a_module_outside_of_the_lightning_module_is_isolated_too():
    class Outside(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(8)

        def forward(self, x):
            return self.norm(x[:, :480].unflatten(1, (60, 8)).mT).mT

    outside = Outside().train()
    before = outside.norm.running_mean.clone()
    x = utterances(40)
    run = run_callback(TinySpeechModel(), x, num_clusters=4, embed=outside)
    assert torch.equal(outside.norm.running_mean, before)
    assert outside.training
    assert run.bound == run_callback(TinySpeechModel(), x, num_clusters=4, embed=outside.eval()).bound
