"""One call of a model, with the outputs of its layers."""

import pytest
import torch
from torch import nn

from lightning_mi.embedding.discovery import find_encoder
from lightning_mi.inputs.structure import UnknownStructureError
from tests.embedding.modules import WAVES, Embeds


def test_forward_keeps_the_shape_of_the_batch():
    shapes = []

    class Records(Embeds):
        def forward(self, x):
            shapes.append(tuple(x.shape))
            return super().forward(x)

    encoder = find_encoder(Records())
    encoder(WAVES)
    encoder(WAVES[:, None])
    assert shapes == [(3, 2000), (3, 1, 2000)]


def test_a_forward_that_wants_more_is_named():
    class WantsMore(Embeds):
        def forward(self, x, targets):
            return x

    with pytest.raises(UnknownStructureError, match=r"Calling `forward`.*missing 1 required.*Pass `embed=`"):
        find_encoder(WantsMore())(WAVES)


def test_hooks_are_removed_after_an_error():
    module = Embeds()
    encoder = find_encoder(module, layers=["net"])
    with pytest.raises(RuntimeError):
        encoder(torch.randn(3, 5))
    assert not module.net._forward_hooks


def test_a_layer_that_is_not_run_is_named():
    module = Embeds()
    module.unused = nn.Linear(2, 2)
    with pytest.raises(UnknownStructureError, match=r"`layers` names \['unused'\], which `forward` does not run"):
        find_encoder(module, layers=["net", "unused"])(WAVES)
