"""Random numbers that a model draws in eval mode are an utterance's own: what rows share by their place is no information."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.helpers.distributed import in_processes
from tests.helpers.models import TinySpeechModel, loader
from tests.helpers.run_callback import run_callback
from tests.helpers.speech import utterances

NOISE = torch.randn(320, 1000, generator=torch.Generator().manual_seed(1))  # independent segments: the truth is 0


class Sampling(TinySpeechModel):
    """Frames of noise; what is drawn hides them nearly."""

    def __init__(self):
        torch.manual_seed(0)
        super().__init__(dim=8)
        self.own = [torch.Generator().manual_seed(5), np.random.default_rng(5), random.Random(5)]

    def validation_step(self, batch, batch_idx):
        pass


class Gumbel(Sampling):
    def forward(self, x):
        return F.gumbel_softmax(super().forward(x).mean(dim=1, keepdim=True), tau=0.1)


class Variational(Sampling):
    def forward(self, x):
        z = super().forward(x).mean(dim=1, keepdim=True)
        return z + torch.randn_like(z)


class Masks(Sampling):
    """Numpy's masks, one for each row."""

    def forward(self, x):
        z = super().forward(x)
        starts = np.random.randint(z.shape[1] - 2, size=z.shape[0])  # noqa: NPY002
        hit = torch.arange(z.shape[1]) - torch.from_numpy(starts)[:, None]
        return torch.where(((hit >= 0) & (hit < 3))[:, :, None], 2.0, z)


class Shared(Sampling):
    """One scale for all rows of a call."""

    def forward(self, x):
        return super().forward(x) * 10 ** random.uniform(-1, 1)


class OwnGenerators(Sampling):
    def forward(self, x):
        z = super().forward(x).mean(dim=1, keepdim=True)
        noise = torch.randn(z.shape, generator=self.own[0]) + self.own[1].normal(size=z.shape)
        return z + noise.float() + self.own[2].random()


class Dropout(Sampling):
    def forward(self, x):
        return F.dropout(super().forward(x), 0.01, training=True)


RANDOM = [Gumbel, Variational, Masks, Shared, OwnGenerators]


@pytest.mark.parametrize("make", RANDOM)
def test_white_noise_has_no_information_whatever_the_model_draws(make):
    run = run_callback(make(), loader(NOISE, batch_size=32), num_clusters=8)
    assert run.estimate.bound <= 2 * run.estimate.stderr
    assert len([text for text in run.warnings if "random numbers" in text]) == 1


def values(batch_size, processes=1):
    several = {"devices": processes, "strategy": "ddp"} if processes > 1 else {}
    data = [loader(utterances(100), batch_size=batch_size) for _ in range(2)]
    runs = [
        run_callback(make(), x, trainer=several, num_clusters=4)
        for make, x in zip((Dropout, Masks), data, strict=True)
    ]
    return [run.bound for run in runs]


def test_what_is_drawn_depends_neither_on_the_batch_nor_on_the_number_of_processes(tmp_path):
    expected = values(100)
    assert min(expected) > 0.05
    assert values(7) == expected
    for found in in_processes(2, tmp_path, values, 7, 2):
        assert found == pytest.approx(expected, abs=1e-5)


class DrawsForNothing(TinySpeechModel):
    """As layer drop in transformers: a draw that eval mode does not use."""

    calls: list[int] = []  # noqa: RUF012

    def forward(self, x):
        self.calls.append(len(x))
        drop = torch.rand([]) < 0.5
        return super().forward(nn.functional.dropout(x, 0.5, self.training and bool(drop)))


def test_draws_without_an_effect_cost_one_call_an_epoch():
    DrawsForNothing.calls.clear()
    x = utterances(60)
    run = run_callback(DrawsForNothing(), loader(x, batch_size=20), num_clusters=4)
    plain = run_callback(TinySpeechModel(), loader(x, batch_size=20), num_clusters=4)
    # The trial call; a batch of the model's own, then two segments of each utterance; the first batch's twice.
    assert sum(DrawsForNothing.calls) == 4 + 6 + 60 + 2 * 60 + 2 * 20
    assert not [text for text in run.warnings if "random numbers" in text]
    assert set(run.logged) == set(plain.logged)
