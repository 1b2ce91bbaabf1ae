import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_mi.hashing import content_hash, mix, uniform

MASK = 2**64 - 1


def splitmix64(x: int, seed: int) -> int:
    """The published algorithm in Python's unbounded integers."""
    z = (x + (seed + 1) * 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


@pytest.mark.parametrize("seed", [0, 1, 12345, -7, 2**40])
def test_mix_equals_the_published_algorithm(seed):
    values = [0, 1, -1, 2**62, -(2**63), 2**63 - 1, 987654321]
    mixed = mix(torch.tensor(values), seed).tolist()
    assert [value & MASK for value in mixed] == [splitmix64(value & MASK, seed) for value in values]


def test_uniform_is_uniform():
    u = uniform(torch.arange(200_000), seed=5)
    counts = torch.histc(u.float(), bins=20, min=0, max=1)
    assert ((counts - 10_000).abs() < 5 * 100).all()  # 5 standard deviations


def test_content_hash_ignores_padding_batch_and_order():
    x = torch.randn(4, 1000)
    lengths = torch.tensor([1000, 500, 700, 1])
    names = content_hash(x, lengths)
    assert len(set(names.tolist())) == 4
    alone = torch.cat([content_hash(x[i : i + 1, : lengths[i]], lengths[i : i + 1]) for i in (3, 1, 0, 2)])
    assert torch.equal(alone, names[[3, 1, 0, 2]])
    garbage = torch.where(torch.arange(1000) < lengths[:, None], x, torch.full_like(x, float("nan")))
    assert torch.equal(content_hash(garbage, lengths), names)


def test_content_hash_tells_small_changes_apart():
    x = torch.zeros(300, 300)
    x.fill_diagonal_(2.0**-15)  # one least bit of 16-bit audio, at another place in each row
    x = torch.cat([x, torch.zeros(1, 300)])
    assert len(content_hash(x, torch.full((301,), 300)).unique()) == 301


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=8), st.integers(0, 30), st.randoms(use_true_random=False))
def test_content_hash_depends_on_the_values_alone(lengths, padding, random):
    """Neither on what stands behind a row, nor on its place in the batch, nor on the batch."""
    generator = torch.Generator().manual_seed(random.randint(0, 2**31))
    x, lengths = torch.randn(len(lengths), 40, generator=generator), torch.tensor(lengths)
    whole = content_hash(x, lengths)
    padded = torch.cat([x, torch.randn(len(x), padding, generator=generator)], dim=1)
    padded = torch.where(torch.arange(40 + padding) < lengths[:, None], padded, 7.0)
    order = list(range(len(x)))
    random.shuffle(order)
    assert torch.equal(content_hash(padded[order], lengths[order]), whole[order])
    for row in range(len(x)):
        assert torch.equal(content_hash(x[row : row + 1], lengths[row : row + 1])[0], whole[row])


def test_content_hash_of_a_batch_that_is_hashed_in_parts():
    x, lengths = torch.randn(3, 1 << 20), torch.tensor([1 << 20, 5, 1 << 19])
    alone = torch.cat([content_hash(x[row : row + 1], lengths[row : row + 1]) for row in range(3)])
    assert torch.equal(content_hash(x, lengths), alone)
