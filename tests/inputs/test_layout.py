"""Where time lies: frames and back, whatever the layout of the batch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_mi.inputs.layout import Layout, parse_time_dim

X = torch.randn(3, 50, 7)


@pytest.mark.parametrize(
    ("time_dim", "x"), [(None, X[..., 0]), (None, X[:, None, :, 0]), (1, X), (-2, X), (2, X.mT), (-1, X.mT)]
)
def test_segments_are_restored_in_the_layout_of_the_batch(time_dim, x):
    layout = parse_time_dim(time_dim)
    assert layout.fits(x)
    assert layout.length(x) == 50
    frames = layout.frames(x)
    assert torch.equal(frames, X[..., :1] if time_dim is None else X)
    assert torch.equal(layout.restore(frames, like=x), x)
    cut = frames[:, None, 10:30].expand(-1, 2, -1, -1)  # two segments of each
    assert torch.equal(layout.frames(layout.restore(cut, like=x).flatten(0, 1)), cut.flatten(0, 1))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([None, 1, 2, -1, -2]), st.lists(st.integers(1, 5), min_size=3, max_size=3), st.booleans())
def test_frames_restored_are_the_batch_in_any_layout_and_size(time_dim, shape, mono):
    rows, length, features = shape
    layout = parse_time_dim(time_dim)
    if time_dim is None:
        size = (rows, 1, length) if mono else (rows, length)
    else:
        size = (rows, length, features) if time_dim in (1, -2) else (rows, features, length)
    x = torch.arange(float(rows * length * (1 if time_dim is None else features))).reshape(size)
    assert layout.fits(x)
    frames = layout.frames(x)
    assert frames.shape[:2] == (rows, layout.length(x)) == (rows, length)
    restored = layout.restore(frames, like=x)
    assert restored.shape == x.shape
    assert torch.equal(restored, x)


@pytest.mark.parametrize(
    ("layout", "shape"), [(Layout(), (2, 3, 9)), (Layout(), (2, 0)), (Layout(1), (2, 9)), (Layout(2), (2, 3, 0))]
)
def test_other_shapes_do_not_fit(layout, shape):
    assert not layout.fits(torch.zeros(shape))


@pytest.mark.parametrize(
    ("time_dim", "error"), [(0, ValueError), (3, ValueError), (True, TypeError), ("1", TypeError)]
)
def test_bad_argument_is_named(time_dim, error):
    with pytest.raises(error, match=f"`time_dim` must be .*got {time_dim!r}"):
        parse_time_dim(time_dim)
