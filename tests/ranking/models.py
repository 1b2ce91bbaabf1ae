"""Small models and how they are ranked."""

from functools import partial

import torch
from lightning.pytorch import Trainer

from lightning_mi import MIBoundCallback
from lightning_mi.ranking import rank_models
from tests.helpers.models import TinySpeechModel, loader
from tests.helpers.run_callback import ONE_PAIR, PAPER
from tests.helpers.speech import SAMPLE_RATE, utterances

COUNT = 200


def rank(models, data=None, trainer=None, **kwargs):
    settings = {"num_clusters": 8, "sample_rate": SAMPLE_RATE} | ONE_PAIR | kwargs
    return rank_models(
        models,
        loader(utterances(COUNT)) if data is None else data,
        callback=partial(MIBoundCallback, **PAPER | settings),
        trainer=trainer or partial(Trainer, accelerator="cpu"),
        progress_bar=False,
    )


def noisy(model, scale, seed=0):
    """The model's frames, with as much noise of its own for each segment."""

    def embed(waveforms):
        z = model(waveforms)
        return z + scale * torch.randn(z.shape, generator=torch.Generator().manual_seed(seed))

    return embed


def three_models():
    model = TinySpeechModel()
    return {"a little": noisy(model, 0.5), "much": noisy(model, 1.5), "none": model}


def saved(folder, content, name="x.ckpt"):
    torch.save(content, folder / name)
    return folder / name
