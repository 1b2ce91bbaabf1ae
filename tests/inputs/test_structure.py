"""Every leaf of a nested batch is found at its path, whatever it is nested in."""

from collections import namedtuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_mi.inputs.batches import waveforms_in_batch
from lightning_mi.inputs.structure import UnknownStructureError, leaves

B, T = 3, 1000
LENGTHS = torch.tensor([1000, 600, 800])
WAVES = torch.randn(B, T) * (torch.arange(T) < LENGTHS[:, None])
MASK = torch.arange(T) < LENGTHS[:, None]
Batch = namedtuple("Batch", ["inputs", "labels"])


def test_long_structures_are_cut():
    with pytest.raises(UnknownStructureError, match="and 80 more"):
        waveforms_in_batch({str(i): i for i in range(100)})


def nested(leaf):
    return st.recursive(
        leaf,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.tuples(inner, inner)
            | st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3)
        ),
        max_leaves=8,
    )


@settings(max_examples=60, deadline=None)
@given(nested(st.integers()))
def test_every_leaf_is_found_at_its_path(batch):
    found = list(leaves(batch))
    for leaf in found:
        assert eval(f"batch{leaf.path}", {"batch": batch}) == leaf.value
    assert sum(1 for _ in count(batch)) == len(found)


def count(node):
    if isinstance(node, dict):
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for each in node:
            yield from count(each)
    else:
        yield node


@settings(max_examples=40, deadline=None)
@given(nested(st.none()))
def test_waveforms_are_found_wherever_they_stand(others):
    found = waveforms_in_batch({"others": others, "deep": [{"audio": (WAVES, None)}]})
    assert torch.equal(found.samples, WAVES)
    assert found.lengths.tolist() == LENGTHS.tolist()
