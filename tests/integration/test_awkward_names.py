"""Layers and labels may be called anything: the value is that of the same embeddings by hand."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from lightning_mi import labeled_mi_bound, mi_bound
from lightning_mi.inputs.batches import Waveforms
from lightning_mi.inputs.segments import SegmentSampler, parse_gaps
from tests.helpers.models import TinySpeechModel
from tests.helpers.run_callback import run_callback
from tests.helpers.speech import SAMPLE_RATE, utterances

NAMES = (
    "features",
    "output",
    "input",
    "null",
    "best",
    "near",
    "labels",
    "mean of x",
    "frame of x",
    "statistics of features",
    "sketch of the utterance",
    "a/b",
    "layers/x",
    "gap_near",
    "LAYER",
    "$cost$",
    "net[0]",
    "mean*",  # of "mean of x", too, if it were a glob
)


class Named(TinySpeechModel):
    """A linear layer of each name on the same frames, each with weights of its own: submodules of the module itself,
    since "named.features" could not be mistaken for "features"."""

    def __init__(self):
        super().__init__()
        for name in NAMES:
            self.add_module(name, nn.Linear(16, 6))

    def layers(self):
        return {name: self.get_submodule(name) for name in NAMES}

    def forward(self, x):
        frames = super().forward(x)
        return torch.stack([layer(frames) for layer in self.layers().values()]).mean(dim=0)

    def validation_step(self, batch, batch_idx):
        pass


@pytest.mark.parametrize("pooling", ["mean", "boundary"])
def test_every_layer_has_the_bound_of_its_own_embeddings(pooling):
    torch.manual_seed(0)
    x, module = utterances(160), Named()
    speakers = torch.arange(160) % 5
    batches = DataLoader([(row, int(who)) for row, who in zip(x, speakers, strict=True)], batch_size=160)
    labels = dict.fromkeys(("features", "output", "sketch of the utterance", "mean of x", "near"), 1)
    run = run_callback(
        module, batches, layers=list(NAMES), labels=labels, pooling=pooling, embed=lambda m, x: m(x)
    )
    sampler = SegmentSampler(0.5, parse_gaps("near"), SAMPLE_RATE, seed=0)
    segments = sampler(Waveforms(x, torch.full((160,), x.shape[1])))
    with torch.no_grad():
        frames = super(Named, module).forward(segments.samples.flatten(0, 1))
        for name, layer in module.layers().items():
            z = layer(frames).unflatten(0, (160, 2))
            pooled = z.mean(dim=2) if pooling == "mean" else torch.stack([z[:, 0, -1], z[:, 1, 0]], dim=1)
            order = segments.keys.argsort()
            groups = segments.groups[order]
            expected = mi_bound(pooled[order, 0], pooled[order, 1], 8, groups=groups).bound
            assert run.logged[f"mi_bound/layers/{name}/bound"] == pytest.approx(expected, abs=1e-4), name
            anchors = z[order, 0].mean(dim=1)
            by_hand = labeled_mi_bound(anchors, speakers[segments.rows][order], groups=groups).bound
            for label in labels:
                logged = run.logged[f"mi_bound/labels/{label}/layers/{name}/bound"]
                assert logged == pytest.approx(by_hand, abs=0.02), (name, label)
    assert len({round(run.logged[f"mi_bound/layers/{layer}/bound"], 5) for layer in NAMES}) == len(NAMES)


def test_a_layer_that_is_called_best_is_that_layer():
    class Best(TinySpeechModel):
        def __init__(self):
            super().__init__()
            self.best = nn.Linear(16, 2)

        def forward(self, x):
            frames = super().forward(x)
            self.best(frames)
            return frames

        def validation_step(self, batch, batch_idx):
            pass

    run = run_callback(Best(), layers=["best", "rnn"], primary_layer="best")
    assert run.bound == run.logged["mi_bound/layers/best/bound"]
    assert run.bound < run.logged["mi_bound/layers/rnn/bound"]
