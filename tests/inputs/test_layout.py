import pytest
import torch

from lightning_mi.controls.input_baseline import frame_statistics
from lightning_mi.inputs.layout import Layout, parse_time_dim

X = torch.randn(3, 50, 7)


@pytest.mark.parametrize(
    ("time_dim", "x"), [(None, X[..., 0]), (None, X[:, None, :, 0]), (1, X), (-2, X), (2, X.mT), (-1, X.mT)]
)
def test_frames_and_back(time_dim, x):
    layout = parse_time_dim(time_dim)
    assert layout.fits(x)
    assert layout.length(x) == 50
    frames = layout.frames(x)
    assert torch.equal(frames, X[..., :1] if time_dim is None else X)
    assert torch.equal(layout.restore(frames, like=x), x)
    cut = frames[:, None, 10:30].expand(-1, 2, -1, -1)  # two segments of each
    assert torch.equal(layout.frames(layout.restore(cut, like=x).flatten(0, 1)), cut.flatten(0, 1))


@pytest.mark.parametrize(
    ("layout", "shape"), [(Layout(), (2, 3, 9)), (Layout(), (2, 0)), (Layout(1), (2, 9)), (Layout(2), (2, 3, 0))]
)
def test_what_does_not_fit(layout, shape):
    assert not layout.fits(torch.zeros(shape))


@pytest.mark.parametrize(
    ("time_dim", "error"), [(0, ValueError), (3, ValueError), (True, TypeError), ("1", TypeError)]
)
def test_bad_argument_is_named(time_dim, error):
    with pytest.raises(error, match=f"`time_dim` must be .*got {time_dim!r}"):
        parse_time_dim(time_dim)


def test_statistics_are_those_of_numpy():
    found = frame_statistics(X.double())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found[:, :7].double(), torch.from_numpy(X.double().numpy().mean(axis=1)))
    torch.testing.assert_close(found[:, 7:].double(), torch.from_numpy(X.double().numpy().std(axis=1)))
