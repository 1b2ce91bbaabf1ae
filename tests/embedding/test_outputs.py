"""The frames in whatever a model returns, and what an output that cannot be told is answered with."""

from collections import namedtuple

import pytest
import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutput

from lightning_mi.embedding.discovery import find_encoder
from lightning_mi.embedding.outputs import frames_in_output
from lightning_mi.inputs.structure import UnknownStructureError

WAVES = torch.randn(3, 2000)


FRAMES = torch.randn(3, 7, 4)
Named = namedtuple("Named", ["loss", "z"])


@pytest.mark.parametrize(
    "output",
    [
        FRAMES,
        [torch.zeros(3, 7, 4), FRAMES],
        ((torch.zeros(3, 7, 4), FRAMES), torch.tensor(0.5)),
        (FRAMES, torch.tensor([7, 7, 6])),
        (FRAMES, None),
        ([torch.zeros(3, 7, 4), FRAMES], torch.tensor([7, 7, 6])),
        (torch.tensor(0.5), [torch.zeros(3, 7, 4), FRAMES]),
        (FRAMES, torch.randn(3, 4)),
        BaseModelOutput(last_hidden_state=FRAMES, hidden_states=(torch.zeros(3, 7, 4),) * 3),
        BaseModelOutput(hidden_states=(torch.zeros(3, 7, 4), FRAMES)),
        {"loss": torch.tensor(1.0), "features": FRAMES, "logits": torch.randn(3, 7, 30)},
        {"loss": torch.tensor(1.0), "whatever": FRAMES},
        {"x": FRAMES, "padding_mask": None, "features": torch.randn(3, 7, 5)},  # fairseq's
        {"x": torch.randn(3, 9, 4), "z": FRAMES},
        {"x": torch.randn(3, 4), "h": FRAMES},
        Named(torch.tensor(1.0), FRAMES),
    ],
)
def test_frames_are_found_in_any_output(output):
    assert torch.equal(frames_in_output(output, 3), FRAMES)


@pytest.mark.parametrize("output", [torch.randn(3, 4), (torch.randn(3, 4), torch.tensor([1, 2, 3]))])
def test_outputs_without_time_are_one_frame(output):
    assert frames_in_output(output, 3).shape == (3, 4)


@pytest.mark.parametrize(
    ("output", "shown"),
    [
        (torch.randn(2, 7, 4), r"a tensor of shape \(2, 7, 4\), torch.float32"),
        (torch.randn(3, 7, 4, 2), r"shape \(3, 7, 4, 2\)"),
        (torch.ones(3, 7, dtype=torch.long), r"torch.int64"),
        ((torch.randn(3, 7, 4), torch.randn(3, 7, 4)), r"a tuple of \(a tensor of shape \(3, 7, 4\)"),
        ({"mean": torch.randn(3, 7, 4), "variance": torch.randn(3, 7, 4)}, r"'variance': a tensor"),
        ((torch.randn(3, 7, 4), torch.randn(3, 7, 30)), r"a tuple of \(a tensor of shape \(3, 7, 4\)"),
        ({"a": "b"}, r"{'a': a str}"),
        (None, r"a NoneType"),
        ([], r"a list of \(\)"),
    ],
)
def test_what_cannot_be_told_is_shown(output, shown):
    encoder = find_encoder(nn.Identity(), embed=lambda x: output)
    with pytest.raises(UnknownStructureError, match=shown) as raised:
        encoder(WAVES)
    assert "Pass `embed=`" in str(raised.value)
