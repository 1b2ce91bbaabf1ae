"""Clients of libraries that the default set-up does not install; those that are missing are left out.

`requirements.txt` beside this file has the versions. Each is imported when its client is made.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lightning_mi.examples.clients.client import SAMPLE_RATE, Client, Module, client, padded, spectra


def of(
    module: str, library: str, name: str, batch: str = "(B, T), lengths"
) -> Callable[[Callable[[], Client]], None]:
    """Register a client, if the module that it imports is installed."""
    if importlib.util.find_spec(module) is None:
        return lambda make: None
    return client(library, name, batch)


def padded_batch(rows: list[Tensor]) -> Any:
    """SpeechBrain's own."""
    from speechbrain.dataio.batch import PaddedBatch

    return PaddedBatch([{"id": str(number), "sig": row} for number, row in enumerate(rows)])


@of("speechbrain", "speechbrain", "ECAPA_TDNN behind log spectra", "PaddedBatch")
def ecapa() -> Client:
    from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN

    model: Any = ECAPA_TDNN(
        32,
        channels=[16] * 4 + [48],
        kernel_sizes=[5, 3, 3, 3, 1],
        dilations=[1, 2, 3, 4, 1],
        attention_channels=8,
        lin_neurons=16,
        res2net_scale=4,
        se_channels=8,
    )
    return Client(
        Module(
            model,
            lambda module, x: module.model(spectra(x)),
            lambda module, batch: module(batch.sig.data),
        ),
        lambda x: model(spectra(x)),
        padded_batch,
    )


@of("speechbrain", "speechbrain", "W2VLatentExtractor", "PaddedBatch")
def latents() -> Client:
    from speechbrain.lobes.models.wav2vec import W2VLatentExtractor

    model: Any = W2VLatentExtractor(out_channels=[8] * 7)
    return Client(Module(model, step=lambda module, batch: module(batch.sig.data)), model, padded_batch)


@of("encodec", "encodec", "SEANetEncoder", "(B, 1, T)")
def seanet() -> Client:
    from encodec.modules import SEANetEncoder

    model: Any = SEANetEncoder(channels=1, dimension=8, n_filters=4, ratios=[8, 5, 4], lstm=1)
    return Client(Module(model), lambda x: model(x[:, None]).mT, lambda rows: padded(rows)[0][:, None])


@of("vocos", "vocos", "VocosBackbone behind log spectra")
def vocos() -> Client:
    from vocos.models import VocosBackbone

    model: Any = VocosBackbone(input_channels=32, dim=16, intermediate_dim=16, num_layers=1)
    return Client(Module(model, lambda module, x: module.model(spectra(x).mT)), lambda x: model(spectra(x).mT))


def _asteroid() -> nn.Module:
    from asteroid.models import ConvTasNet

    model: Any = ConvTasNet(n_src=2, n_repeats=1, n_blocks=2, bn_chan=8, hid_chan=8, skip_chan=8, n_filters=16)
    return model


@of("asteroid", "asteroid", "ConvTasNet")
def separation() -> Client:
    return Client(Module(_asteroid()), error="is a waveform")


@of("asteroid", "asteroid", "ConvTasNet's encoder, by its name", "(B, 1, T)")
def separation_encoder() -> Client:
    model: Any = _asteroid()
    return Client(
        Module(model),
        lambda x: model.encoder(x[:, None]).mT,
        lambda rows: padded(rows)[0][:, None],
        {"embed": "model.encoder"},
    )


@of("espnet2", "espnet", "ConformerEncoder(xs_pad, ilens) behind log spectra")
def espnet() -> Client:
    model: Any = espnet_encoder()

    def encode(x: Tensor) -> Any:
        frames = spectra(x, hop=160)
        return model(frames, torch.full((len(x),), frames.shape[1]))

    return Client(Module(model, lambda module, x: encode(x)), lambda x: encode(x)[0])


@of("espnet2", "espnet", "ConformerEncoder(xs_pad, ilens)", "speech (B, T, F), speech_lengths")
def espnet_of_features() -> Client:
    model: Any = espnet_encoder()

    def collate(rows: list[Tensor]) -> dict[str, Tensor]:
        values, lengths = padded(rows)
        return {"speech": values, "speech_lengths": lengths}

    return Client(
        Module(model, step=lambda module, batch: module.model(batch["speech"], batch["speech_lengths"])),
        lambda x: model(x, torch.full((len(x),), x.shape[1]))[0],
        collate,
        {"time_dim": 1, "embed": "model", "sample_rate": 100, "segment_seconds": 0.5},
        features=lambda row: spectra(row, hop=160),
    )


def espnet_encoder() -> nn.Module:
    """ESPnet's, without a front end."""
    from espnet2.asr.encoder.conformer_encoder import ConformerEncoder

    model: Any = ConformerEncoder(
        32,
        output_size=16,
        attention_heads=2,
        linear_units=16,
        num_blocks=1,
        rel_pos_type="latest",
        pos_enc_layer_type="rel_pos",
        selfattention_layer_type="rel_selfattn",
        cnn_module_kernel=3,
    )
    return model


@of("lightly", "lightly", "BYOL's projection head on the means of a GRU")
def byol() -> Client:
    from lightly.models.modules import BYOLProjectionHead

    model: Any = nn.ModuleDict(
        {"backbone": nn.GRU(32, 16, batch_first=True), "projection": BYOLProjectionHead(16, 8, 4)}
    )

    def forward(module: Module, x: Tensor) -> Any:
        return model["projection"](model["backbone"](spectra(x))[0].mean(1))

    return Client(Module(model, forward), lambda x: model["projection"](model["backbone"](spectra(x))[0].mean(1)))


@of("x_transformers", "x-transformers", "ContinuousTransformerWrapper behind log spectra")
def x_transformers() -> Client:
    from x_transformers import ContinuousTransformerWrapper, Encoder

    layers = Encoder(dim=16, depth=1, heads=2)
    model: Any = ContinuousTransformerWrapper(dim_in=32, dim_out=16, max_seq_len=60, attn_layers=layers)
    return Client(
        Module(
            model, lambda module, x: module.model(spectra(x)), lambda module, batch: module(batch[0][:, :16_000])
        ),
        lambda x: model(spectra(x)),
    )


@of("timm", "timm", "resnet10t on log spectra, its feature map")
def timm() -> Client:
    import timm as library

    model: Any = library.create_model("resnet10t", in_chans=1, num_classes=0)
    return Client(
        Module(model, lambda module, x: model.forward_features(spectra(x, hop=40)[:, None])),
        lambda x: model.forward_features(spectra(x, hop=40)[:, None]).transpose(1, 2).flatten(2),
    )


@of("lhotse", "lhotse", "frames of a GRU", "collate_audio of a CutSet, with supervisions")
def lhotse() -> Client:
    model: Any = nn.GRU(32, 16, batch_first=True)

    def collate(rows: list[Tensor]) -> dict[str, Any]:
        from lhotse import CutSet, MonoCut
        from lhotse.dataset.collation import collate_audio
        from lhotse.testing.dummies import dummy_recording

        cuts = []
        for number, row in enumerate(rows):
            recording = dummy_recording(number, duration=len(row) / SAMPLE_RATE, with_data=True)
            recording.sources[0].source = _wav(row)
            cuts.append(MonoCut(f"cut-{number}", 0.0, len(row) / SAMPLE_RATE, 0, recording=recording))
        audio, lengths = collate_audio(CutSet.from_cuts(cuts))
        numbers = torch.arange(len(rows))
        return {"inputs": audio, "supervisions": {"sequence_idx": numbers, "num_samples": lengths}}

    return Client(
        Module(model, lambda module, x: module.model(spectra(x)), lambda module, batch: module(batch["inputs"])),
        lambda x: model(spectra(x))[0],
        collate,
    )


def _wav(row: Tensor) -> bytes:
    import io

    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, row.numpy(), SAMPLE_RATE, format="WAV", subtype="FLOAT")
    return buffer.getvalue()
