"""Clients that need no library: the shapes, batches and habits of modules that people write themselves."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lightning_mi.examples.clients.client import Client, Module, client, padded, spectra


class Frames(nn.Module):
    """Log spectra and a linear map, ``(B, T)`` to ``(B, T', 16)``."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(32, 16)

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.linear(spectra(x))
        return z


def _frames(
    forward: Callable[..., Any] | None = None,
    collate: Callable[[list[Tensor]], Any] | None = None,
    **arguments: Any,
) -> Client:
    """A module whose embeddings are the frames, whatever ``forward`` makes of them."""
    model: Any = Frames()
    return Client(Module(model, forward), model, collate, arguments)


# ---- outputs

OUTPUTS: dict[str, Callable[[Tensor], Any]] = {
    "(B, D, T)": lambda z: z.mT,
    "(T, B, D)": lambda z: z.transpose(0, 1),
    "(B, 1, T, D)": lambda z: z[:, None],
    "(B, C, F, T), a convolution's": lambda z: z.mT.unflatten(1, (4, 4)),
    "frames, their lengths": lambda z: (z, torch.full((len(z),), z.shape[1])),
    "channel-first frames, their lengths": lambda z: (z.mT, torch.full((len(z),), z.shape[1])),
    "frames, a recurrent state": lambda z: (z, (torch.zeros(2, len(z), 5), torch.zeros(2, len(z), 5))),
    "a list of layers": lambda z: [0 * z, z],
    "a dict with a loss": lambda z: {"loss": z.mean(), "embeddings": z},
    "fairseq's dict": lambda z: {"x": z, "padding_mask": None, "features": z.repeat(1, 1, 2)},
    "ESPnet's and fairseq's encoder_out": lambda z: {
        "encoder_out": [z.transpose(0, 1)],
        "encoder_padding_mask": [],
    },
    "s3prl's hidden_states": lambda z: {"hidden_states": [0 * z, z], "last_hidden_state": z},
    "reconstruction and codes": lambda z: (z.new_zeros(len(z), 1, 320 * z.shape[1]), z, z[..., 0].long()),
    "padded frames, their lengths": lambda z: (
        nn.functional.pad(z, (0, 0, 0, 7)),
        torch.full((len(z),), z.shape[1]),
    ),
}


class Named(NamedTuple):
    """An output as a namedtuple."""

    loss: Tensor
    z: Tensor


@dataclass
class Output:
    """An output as a dataclass."""

    loss: Tensor
    z: Tensor


OUTPUTS["a namedtuple"] = lambda z: Named(z.mean(), z)
OUTPUTS["a dataclass"] = lambda z: Output(z.mean(), z.mT)


def _register_output(name: str, arrange: Callable[[Tensor], Any]) -> None:
    @client("torch", f"output: {name}")
    def make() -> Client:
        return _frames(lambda module, x: arrange(module.model(x)))


for _name, _arrange in OUTPUTS.items():
    _register_output(_name, _arrange)


# ---- batches

Row = namedtuple("Row", ["audio", "number"])
PaddedData = namedtuple("PaddedData", ["data", "lengths"])


class PaddedBatch:
    """As SpeechBrain's: attributes that are tensors with relative lengths."""

    def __init__(self, rows: list[Tensor]) -> None:
        values, lengths = padded(rows)
        self.sig = PaddedData(values, lengths / lengths.max())
        self.id = [str(number) for number in range(len(rows))]

    def to(self, *args: Any, **kwargs: Any) -> PaddedBatch:
        return self


def _mask(rows: list[Tensor], of_padding: bool) -> Tensor:
    values, lengths = padded(rows)
    inside = torch.arange(values.shape[1]) < lengths[:, None]
    return ~inside if of_padding else inside.long()


BATCHES: dict[str, Callable[[list[Tensor]], Any]] = {
    "(B, 1, T), lengths": lambda rows: (padded(rows)[0][:, None], padded(rows)[1]),
    "lengths as shares": lambda rows: (padded(rows)[0], padded(rows)[1] / padded(rows)[1].max()),
    "a dict with an attention_mask": lambda rows: {
        "input_values": padded(rows)[0],
        "attention_mask": _mask(rows, of_padding=False),
    },
    "fairseq's net_input, padding_mask True for padding": lambda rows: {
        "id": torch.arange(len(rows)),
        "net_input": {"source": padded(rows)[0], "padding_mask": _mask(rows, of_padding=True)},
    },
    "SpeechBrain's PaddedBatch": PaddedBatch,
    "a list of waveforms": list,
    "a list of dicts": lambda rows: [{"audio": row, "label": number} for number, row in enumerate(rows)],
    "a list of namedtuples": lambda rows: [Row(row, number) for number, row in enumerate(rows)],
    "lhotse's dict with supervisions": lambda rows: {
        "inputs": padded(rows)[0],
        "supervisions": {"num_samples": padded(rows)[1], "sequence_idx": torch.arange(len(rows))},
    },
    "seconds": lambda rows: {"audio": padded(rows)[0], "duration": padded(rows)[1] / 16000},
    "numpy": lambda rows: (padded(rows)[0].numpy(), padded(rows)[1].numpy()),
    "float64": lambda rows: (padded(rows)[0].double(), padded(rows)[1]),
    "padding with a value": lambda rows: (
        nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-3.0),
        padded(rows)[1],
    ),
    "no lengths, zeros behind": lambda rows: padded(rows)[0],
}


def _register_batch(name: str, collate: Callable[[list[Tensor]], Any]) -> None:
    @client("torch", "frames", f"{name}")
    def make() -> Client:
        made = _frames(collate=collate)
        made.module._step = lambda module, batch: module.model(torch.ones(2, 8000))
        if name.startswith("(B, 1, T)"):
            made.module._forward = lambda module, x: module.model(x[:, 0])
        return made


for _name, _collate in BATCHES.items():
    _register_batch(_name, _collate)


# ---- ways to call a model


@client("torch", "forward(source, padding_mask=None, mask=True, features_only=False)")
def fairseq() -> Client:
    def forward(
        module: Module, source: Tensor, padding_mask: Any = None, mask: bool = True, features_only: bool = False
    ) -> Any:
        z = module.model(source)
        if mask:
            z = z * (torch.rand(z.shape[:2]) > 0.65)[..., None]
        return {"x": z, "padding_mask": padding_mask} if features_only else {"x": z[..., :3], "features": z}

    model: Any = Frames()
    module = _WithSignature(model, forward)
    return Client(module, model)


class _WithSignature(Module):
    """A module whose ``forward`` has the arguments of fairseq's models."""

    def forward(
        self, source: Tensor, padding_mask: Any = None, mask: bool = True, features_only: bool = False
    ) -> Any:
        assert self._forward is not None
        return self._forward(self, source, padding_mask, mask, features_only)


class _Keywords(Module):
    """A module whose ``forward`` takes keywords alone, as NeMo's."""

    def forward(self, *, input_signal: Tensor | None = None, input_signal_length: Tensor | None = None) -> Any:
        assert input_signal_length is not None
        return self.model(input_signal).mT, input_signal_length // 320


@client("torch", "forward(*, input_signal, input_signal_length)")
def keywords() -> Client:
    model: Any = Frames()
    module = _Keywords(
        model, step=lambda module, batch: module(input_signal=batch[0], input_signal_length=batch[1])
    )
    return Client(module, model)


class _Lengths(Module):
    def forward(self, waveforms: Tensor, lengths: Tensor) -> Any:
        return self.model(waveforms) * (lengths > 0)[:, None, None]


@client("torch", "forward(waveforms, lengths)")
def lengths() -> Client:
    model: Any = Frames()
    return Client(_Lengths(model, step=lambda module, batch: module(*batch)), model)


@client("torch", "Conv1d stack, (B, 1, T) made in the step")
def convolutions() -> Client:
    model: Any = nn.Sequential(nn.Conv1d(1, 8, 10, 5), nn.GELU(), nn.Conv1d(8, 8, 8, 64))
    module = Module(model, step=lambda module, batch: module(batch[0][:, None]))
    return Client(module, lambda x: model(x[:, None]).mT)


@client("torch", "a GRU behind log spectra, APC")
def apc() -> Client:
    model: Any = nn.GRU(32, 16, batch_first=True)
    return Client(Module(model, lambda module, x: module.model(spectra(x))), lambda x: model(spectra(x))[0])


@client("torch", "CPC's context network, by its name")
def cpc() -> Client:
    model: Any = nn.ModuleDict({"encoder": Frames(), "context": nn.LSTM(16, 8, batch_first=True)})

    def forward(module: Module, x: Tensor) -> Any:
        z = module.model["encoder"](x)
        return z, module.model["context"](z)[0]

    return Client(
        Module(model, forward),
        lambda x: model["context"](model["encoder"](x))[0],
        arguments={"layers": "model.context"},
    )


@client("torch", "two tensors of one shape, a mean and a variance")
def vae() -> Client:
    made = _frames(lambda module, x: (module.model(x), module.model(x).exp()))
    made.by_hand, made.error = None, "Cannot tell which part of the output"
    return made


@client("torch", "a vector for each utterance")
def vector() -> Client:
    model: Any = Frames()
    return Client(Module(model, lambda module, x: module.model(x).mean(1)), lambda x: model(x).mean(1))


@client("torch", "a function, and a submodule that it calls")
def function() -> Client:
    model: Any = Frames()
    return Client(
        Module(model, lambda module, batch: module.model(batch["audio"]), lambda module, batch: module(batch)),
        lambda x: 2 * model(x),
        lambda rows: {"audio": padded(rows)[0], "lengths": padded(rows)[1]},
        {"embed": lambda module, x: 2 * module.model(x)},
    )


@client("torch", "a `forward` of the whole batch")
def whole_batch() -> Client:
    made = _frames(lambda module, batch: module.model(batch["audio"]))
    made.collate = lambda rows: {"audio": padded(rows)[0], "lengths": padded(rows)[1]}
    made.module._step = lambda module, batch: module(batch)
    made.by_hand, made.error = None, "where `forward` takes a batch"
    return made
