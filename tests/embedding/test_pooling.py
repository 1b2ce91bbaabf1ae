"""Pooling of frames, against a loop."""

import torch

from lightning_mi.embedding.pooling import POOLINGS, pool


def test_pooled_frames_are_those_of_a_loop():
    frames = torch.randn(4, 3, 5, 2, dtype=torch.bfloat16)
    mean, boundary, center = (pool(frames, how) for how in ("mean", "boundary", "center"))
    assert mean.dtype == boundary.dtype == center.dtype == torch.float32
    for row in range(4):
        for segment in range(3):
            edge = frames[row, segment, -1 if segment == 0 else 0]
            assert torch.equal(boundary[row, segment], edge.float())
            assert torch.equal(center[row, segment], frames[row, segment, 2].float())
            torch.testing.assert_close(mean[row, segment], frames[row, segment].float().mean(dim=0))
    for how in POOLINGS:
        assert torch.equal(pool(frames[:, :, 0], how), frames[:, :, 0].float())
