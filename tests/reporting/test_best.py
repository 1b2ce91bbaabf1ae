import io

import torch

from lightning_mi import mi_bound
from lightning_mi.reporting.best import BestEpoch


def estimate(num, seed=0):
    z = torch.randn(num, 4, generator=torch.Generator().manual_seed(seed))
    return mi_bound(z, z + 0.5 * torch.randn(num, 4, generator=torch.Generator().manual_seed(9)), num_clusters=8)


def test_the_state_is_small_and_says_the_same():
    best = BestEpoch.of(estimate(20_000))
    file = io.BytesIO()
    torch.save(best.state(), file)
    assert file.tell() < 100 * 1024
    file.seek(0)
    loaded = BestEpoch.from_state(torch.load(file, weights_only=True))
    other = estimate(20_000, seed=1)
    assert loaded.gain_of(other) == best.gain_of(other)
    assert loaded.bound == best.bound


def test_a_share_of_the_groups_says_nearly_what_all_say():
    first, second = estimate(20_000), estimate(20_000, seed=1)
    whole, stderr = second.gain_over(first)
    some, some_stderr = BestEpoch.of(first).gain_of(second)
    assert abs(some - whole) < 4 * some_stderr
    assert stderr < some_stderr < 4 * stderr


def test_few_groups_are_all_kept():
    first, second = estimate(500), estimate(500, seed=1)
    some, whole = BestEpoch.of(first).gain_of(second), second.gain_over(first)
    assert all(abs(a - b) < 1e-5 for a, b in zip(some, whole, strict=True))
