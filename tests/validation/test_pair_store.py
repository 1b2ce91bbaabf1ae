"""The pairs of lowest priority are kept, whatever the order, the batches and the processes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_mi.hashing import mix
from lightning_mi.validation.pair_store import Column, Kind, PairStore

OUTPUT = Column(Kind.LAYER, "output")


def fill(store, keys, batch):
    for part in keys.split(batch):
        part = part[store.admits(part, mix(part))]
        store.add(part, mix(part), part + 1, {OUTPUT: part[:, None, None].float().expand(-1, 2, 3)})


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_same_keys_in_any_order_and_batch_size(batch):
    keys = torch.randint(2**60, (300,))
    reference = PairStore(max_pairs=50)
    fill(reference, keys, 300)
    store = PairStore(max_pairs=50)
    fill(store, keys[torch.randperm(300)], batch)
    assert set(store.keys.tolist()) == set(reference.keys.tolist())
    assert len(store.keys) == 50
    assert torch.equal(store[OUTPUT][:, 0, 0], store.keys.float())
    assert torch.equal(store.groups, store.keys + 1)


def test_holds_no_more_than_it_should_and_admits_fewer_and_fewer():
    store, embedded = PairStore(max_pairs=64), 0
    for part in torch.randint(2**60, (6400,)).split(32):
        part = part[store.admits(part, mix(part))]
        embedded += len(part)
        store.add(part, mix(part), part, {OUTPUT: torch.zeros(len(part), 2, 1)})
        assert len(store.keys) <= 64
    assert embedded < 64 * (1 + 4.61 + 2)  # k (1 + ln(n / k)), and room for chance


@settings(deadline=None, max_examples=50)
@given(count=st.integers(1, 80), numbers=st.integers(1, 4), many=st.integers(1, 200), most=st.integers(1, 200))
def test_further_pairs_of_utterances_fill_no_more_than_they_should(count, numbers, many, most):
    """Against brute force, in batches of any size."""
    number = torch.arange(count * numbers) % numbers
    keys = torch.arange(count * numbers)
    priorities = (number << 55) + (mix(keys // numbers) >> 9).abs()
    kept = keys[priorities.argsort()].tolist()
    expected = {key for place, key in enumerate(kept) if place < most and (place < many or number[key] == 0)}
    store = PairStore(most, many)
    for part in keys[torch.randperm(len(keys))].split(7):
        part = part[store.admits(part, priorities[part])]
        store.add(part, priorities[part], part, {OUTPUT: part[:, None, None].float()})
    assert set(store.keys.tolist()) == expected
    assert torch.equal(store[OUTPUT][:, 0, 0], store.keys.float())


def test_duplicates_are_kept_once():
    store = PairStore(max_pairs=10)
    fill(store, torch.tensor([1, 2, 3]), 3)
    fill(store, torch.tensor([3, 4]), 2)
    assert store.keys.tolist() == [1, 2, 3, 4]
    store.add(torch.tensor([9, 9]), torch.tensor([7, 7]), torch.tensor([9, 9]), {OUTPUT: torch.zeros(2, 2, 3)})
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


def test_an_empty_store_has_no_columns():
    store = PairStore(max_pairs=4)
    store.keep(torch.tensor([5, 6]), torch.tensor([1, 2]))
    store.drop(torch.zeros(0, dtype=torch.bool))
    assert store.columns == ()
    with pytest.raises(KeyError):
        store[OUTPUT]


def add(store, keys, **columns):
    rows = {
        Column(Kind[kind.upper()], "features"): torch.full((len(keys), 2), value)
        for kind, value in columns.items()
    }
    store.add(keys, mix(keys), keys, rows)


def test_columns_of_different_kinds_never_collide_whatever_their_name():
    store = PairStore(max_pairs=10)
    add(store, torch.arange(3), layer=1.0, labels=2.0, one_frame=3.0)
    for kind, value in ((Kind.LAYER, 1.0), (Kind.LABELS, 2.0), (Kind.ONE_FRAME, 3.0)):
        assert (store[Column(kind, "features")] == value).all()


def test_a_column_is_complete_or_it_is_not_there():
    store = PairStore(max_pairs=4)
    add(store, torch.arange(3), layer=1.0, labels=2.0)
    add(store, torch.arange(3, 8), layer=1.0, one_frame=3.0)
    assert store.columns == (Column(Kind.LAYER, "features"),)
    assert len(store[Column(Kind.LAYER, "features")]) == len(store.keys) == 4


def test_another_shape_is_refused_and_nothing_is_added():
    store = PairStore(max_pairs=10)
    add(store, torch.arange(3), layer=1.0)
    with pytest.raises(
        ValueError, match=r"'features' must have the same shape in all batches, got \(3,\) after \(2,\)"
    ):
        store.add(*3 * [torch.arange(3, 5)], {Column(Kind.LAYER, "features"): torch.zeros(2, 3)})
    assert len(store.keys) == len(store[Column(Kind.LAYER, "features")]) == 3


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 60), max_size=120), st.integers(1, 20), st.randoms(use_true_random=False))
def test_any_order_and_partition_of_the_same_pairs_keeps_the_same(numbers, max_pairs, random):
    expected = sorted(set(numbers), key=lambda number: int(mix(torch.tensor([number]))))[:max_pairs]
    random.shuffle(numbers)
    store = PairStore(max_pairs)
    while numbers:
        size = random.randint(1, len(numbers))
        part, numbers = torch.tensor(numbers[:size]), numbers[size:]
        part = part[store.admits(part, mix(part))]
        store.add(part, mix(part), part, {OUTPUT: part[:, None].float()})
    assert set(store.keys.tolist()) == set(expected)
    if store.columns:
        assert torch.equal(store[OUTPUT][:, 0], store.keys.float())
