"""Client: a model of a library in a LightningModule, batches in its own style, and its embeddings by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

SAMPLE_RATE = 16_000
Forward = Callable[..., Any]


class Module(pl.LightningModule):
    """Holds a model under the name ``model``; its ``forward`` and what a step calls are functions of the module.

    Args:
        model: The model.
        forward: ``forward(module, *inputs)``; ``None``: the model itself.
        step: What a step computes of a batch; ``None``: ``forward`` of its waveforms.
    """

    model: Any

    def __init__(self, model: Any, forward: Forward | None = None, step: Forward | None = None) -> None:
        super().__init__()
        self.model = model
        self._forward, self._step = forward, step

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the function returns."""
        return self.model(*args, **kwargs) if self._forward is None else self._forward(self, *args, **kwargs)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Train for small outputs, which moves every weight."""
        output = self(_waveforms(batch)) if self._step is None else self._step(self, batch)
        return torch.stack([x.float().square().mean() for x in _trained(output)]).sum()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Nothing: the callback does what is of interest."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Plain SGD."""
        return torch.optim.SGD(self.parameters(), lr=1e-3)


@dataclass
class Client:
    """One use of a library.

    Attributes:
        module: The LightningModule.
        by_hand: Segments ``(n, S)``, or of feature sequences in the layout of the batch, to embeddings
            ``(n, T, D)`` or ``(n, D)``, as the library's manual has it.
        collate: Rows ``(T,)`` to a batch in the library's style; ``None``: ``(B, T)``, padded, and lengths.
        arguments: What the callback needs to be told.
        error: A part of the error that is expected in place of a value.
        features: Frames ``(T, F)`` of a row, for models of feature sequences.
    """

    module: Any
    by_hand: Callable[[Tensor], Tensor] | None = None
    collate: Callable[[list[Tensor]], Any] | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    features: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True)
class Entry:
    """A client by its names.

    Attributes:
        library: The package whose model or batch it is.
        name: The model.
        batch: The batch, in words.
        make: Makes it anew, with the same weights.
    """

    library: str
    name: str
    batch: str
    make: Callable[[], Client]


REGISTRY: list[Entry] = []


def client(library: str, name: str, batch: str = "(B, T), lengths") -> Callable[[Callable[[], Client]], None]:
    """Register a function that makes a client."""

    def register(make: Callable[[], Client]) -> None:
        REGISTRY.append(Entry(library, name, batch, make))

    return register


def padded(rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Rows of one length or of many, and their lengths."""
    return nn.utils.rnn.pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows])


def spectra(waveforms: Tensor, hop: int = 320, bands: int = 32) -> Tensor:
    """``(..., T)`` to log spectra ``(..., T', bands)``, the front end of models that have none."""
    power = torch.fft.rfft(waveforms.unfold(-1, 400, hop) * torch.hann_window(400)).abs().square()
    return (
        torch.nn.functional.adaptive_avg_pool1d(power.flatten(0, -2), bands)
        .clamp(min=1e-7)
        .log()
        .unflatten(0, power.shape[:-1])
    )


def _waveforms(batch: Any) -> Any:
    """The first tensor of a batch."""
    if isinstance(batch, dict):
        return _waveforms(next(iter(batch.values())))
    return _waveforms(batch[0]) if isinstance(batch, (list, tuple)) else batch


def _trained(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output] if output.requires_grad and output.is_floating_point() else []
    if hasattr(output, "__dataclass_fields__") and not isinstance(output, dict):
        output = vars(output)
    if isinstance(output, dict):
        output = list(output.values())
    return [x for part in output for x in _trained(part)] if isinstance(output, (list, tuple)) else []
