"""Small real parts that many tests use: utterances with a voice and words, and a module that learns from them."""

from __future__ import annotations

import math

import lightning.pytorch as pl
import torch
import torchaudio
import transformers
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

SAMPLE_RATE = 1000

# The paper's setting of the callback. What `utterances` share lasts for all of each, and is told best by means.
PAPER = {"pooling": "mean", "quantizer": "kmeans", "channels": "shared"}

SMALL_WAV2VEC2 = {
    "extractor_mode": "group_norm",
    "extractor_conv_layer_config": [(8, 10, 5), (8, 8, 4)],
    "extractor_conv_bias": False,
    "encoder_embed_dim": 16,
    "encoder_projection_dropout": 0.1,
    "encoder_pos_conv_kernel": 8,
    "encoder_pos_conv_groups": 4,
    "encoder_num_layers": 2,
    "encoder_num_heads": 2,
    "encoder_attention_dropout": 0.1,
    "encoder_ff_interm_features": 16,
    "encoder_ff_interm_dropout": 0.1,
    "encoder_dropout": 0.1,
    "encoder_layer_norm_first": False,
    "encoder_layer_drop": 0.1,
}


def utterances(count: int, seconds: float = 2.0, seed: int = 0) -> Tensor:
    """``(count, T)`` noise whose colour (a "voice") lasts for the utterance: segments share it and nothing else."""
    generator = torch.Generator().manual_seed(seed)
    length = round(seconds * SAMPLE_RATE)
    time = torch.arange(length) / SAMPLE_RATE
    pitch = 20 + 300 * torch.rand(count, 1, generator=generator)
    phase = 2 * math.pi * torch.rand(count, 1, generator=generator)
    noise = 0.3 * torch.randn(count, length, generator=generator)
    return torch.sin(2 * math.pi * pitch * time + phase) + noise


class Utterances(Dataset):
    """Items are rows of a tensor."""

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Tensor:
        return self.x[index]


class TinySpeechModel(pl.LightningModule):
    """Predicts the next frame's power spectrum: ``forward`` gives ``(B, T', D)``."""

    def __init__(self, frame: int = 50, dim: int = 16, lr: float = 1e-2) -> None:
        super().__init__()
        self.frame = frame
        self.lr = lr
        self.rnn = nn.GRU(frame // 2 + 1, dim, batch_first=True)
        self.head = nn.Linear(dim, frame // 2 + 1)

    def spectrum(self, x: Tensor) -> Tensor:
        x = x.reshape(x.shape[0], -1)
        frames = x.unfold(1, self.frame, self.frame)
        return torch.fft.rfft(frames.float()).abs().add(1e-3).log().to(self.head.weight.dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(self.spectrum(x))[0]

    def predict(self, x: Tensor) -> Tensor:
        """The next frames' spectra, through all layers."""
        return self.head(self(x))

    def loss(self, batch: Tensor) -> Tensor:
        return (self.predict(batch)[:, :-1] - self.spectrum(batch)[:, 1:]).abs().mean()

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val/loss", self.loss(batch))

    def test_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("test/loss", self.loss(batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.lr)


def loader(x: Tensor, batch_size: int = 32, **kwargs: object) -> DataLoader:
    return DataLoader(Utterances(x), batch_size=batch_size, **kwargs)


def quiet_trainer(**kwargs: object) -> pl.Trainer:
    """A Trainer that leaves nothing on disk and prints nothing."""
    settings: dict[str, object] = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "max_epochs": 1,
    }
    return pl.Trainer(**(settings | kwargs))


def hubert_pretrain() -> nn.Module:
    """torchaudio's HuBERT for pre-training, at a size for tests."""
    return torchaudio.models.hubert_pretrain_model(
        **SMALL_WAV2VEC2,
        mask_prob=0.8,
        mask_selection="static",
        mask_other=0.0,
        mask_length=3,
        no_mask_overlap=False,
        mask_min_space=1,
        mask_channel_prob=0.0,
        mask_channel_selection="static",
        mask_channel_other=0.0,
        mask_channel_length=10,
        no_mask_channel_overlap=False,
        mask_channel_min_space=1,
        skip_masked=False,
        skip_nomask=False,
        num_classes=10,
        final_dim=8,
        feature_grad_mult=0.1,
    )


def transformers_config(kind: str) -> object:
    """Config of a transformers speech model ("Wav2Vec2", "Hubert", ...), at a size for tests."""
    return getattr(transformers, f"{kind}Config")(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8, 8),
        conv_stride=(5, 4),
        conv_kernel=(10, 8),
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=4,
        codevector_dim=8,
        proj_codevector_dim=8,
        num_codevectors_per_group=4,
        num_codevector_groups=2,
    )
