"""Modules that wrap models of libraries, or embed in methods of their own."""

import lightning.pytorch as pl
import torch
import torchaudio
from torch import nn

from tests.helpers.library_models import SMALL_WAV2VEC2

WAVES = torch.randn(3, 2000)


def wav2vec2(aux=None):
    return torchaudio.models.wav2vec2_model(**SMALL_WAV2VEC2, aux_num_out=aux)


class Wraps(pl.LightningModule):
    def __init__(self, **modules):
        super().__init__()
        for name, module in modules.items():
            setattr(self, name, module)


class Embeds(Wraps):
    def __init__(self):
        super().__init__(net=nn.Linear(2000, 6))
        self.constant = 3

    def forward(self, x):
        return self.net(x.reshape(len(x), -1))

    def encode(self, x):
        return 2 * self(x)


def output_of(encoder, waves=WAVES):
    (name,) = encoder.layer_names
    return encoder(waves)[name]
