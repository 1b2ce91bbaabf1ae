import pytest
import torch

from lightning_mi.hashing import mix
from lightning_mi.validation.pair_store import PairStore


def fill(store, keys, batch):
    for part in keys.split(batch):
        part = part[store.admits(part, mix(part))]
        store.add(part, mix(part), part + 1, {"output": part[:, None, None].float().expand(-1, 2, 3)})


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_same_keys_in_any_order_and_batch_size(batch):
    keys = torch.randint(2**60, (300,))
    reference = PairStore(max_pairs=50)
    fill(reference, keys, 300)
    store = PairStore(max_pairs=50)
    fill(store, keys[torch.randperm(300)], batch)
    assert set(store.keys.tolist()) == set(reference.keys.tolist())
    assert len(store.keys) == 50
    assert torch.equal(store.embeddings("output")[:, 0, 0], store.keys.float())
    assert torch.equal(store.groups, store.keys + 1)


def test_holds_no_more_than_it_should_and_admits_fewer_and_fewer():
    store, embedded = PairStore(max_pairs=64), 0
    for part in torch.randint(2**60, (6400,)).split(32):
        part = part[store.admits(part, mix(part))]
        embedded += len(part)
        store.add(part, mix(part), part, {"output": torch.zeros(len(part), 2, 1)})
        assert len(store.keys) <= 64
    assert embedded < 64 * (1 + 4.61 + 2)  # k (1 + ln(n / k)), and room for chance


def test_duplicates_are_kept_once():
    store = PairStore(max_pairs=10)
    fill(store, torch.tensor([1, 2, 3]), 3)
    fill(store, torch.tensor([3, 4]), 2)
    assert store.keys.tolist() == [1, 2, 3, 4]
    store.add(torch.tensor([9, 9]), torch.tensor([7, 7]), torch.tensor([9, 9]), {"output": torch.zeros(2, 2, 3)})
    store.keep(store.keys, store.priorities)
    assert sorted(store.keys.tolist()) == [1, 2, 3, 4, 9]


def test_two_processes_choose_what_one_would():
    keys = torch.randint(2**60, (200,))
    whole = PairStore(max_pairs=40)
    fill(whole, keys, 20)
    parts = [PairStore(max_pairs=40) for _ in range(2)]
    for part, half in zip(parts, keys.split(100), strict=True):
        fill(part, half, 20)
    everyone = torch.cat([part.keys for part in parts])
    for part in parts:
        part.keep(everyone, mix(everyone))
    assert sorted(torch.cat([part.keys for part in parts]).tolist()) == sorted(whole.keys.tolist())


def test_empty_store():
    store = PairStore(max_pairs=4)
    store.keep(torch.tensor([5, 6]), torch.tensor([1, 2]))
    store.drop(torch.zeros(0, dtype=torch.bool))
    assert store.embeddings("output") is None
