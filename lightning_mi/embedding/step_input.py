"""What the user's validation step gives the model, beside what the callback would give it."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_modules

from lightning_mi.embedding.encoder import Encoder
from lightning_mi.embedding.outputs import is_plain, tensors_in
from lightning_mi.embedding.signature import default_of, is_switch

_LARGEST_RATIO = 2.0  # of two standard deviations that are called alike: crops, masks and padding differ by less
_RATES = (8000, 16000, 22050, 24000, 32000, 44100, 48000)
_MOST_NOISE = 0.25  # of a row's norm: augmentation that leaves the waveform what it is
_PIECE = 50  # samples by which a crop of the batch is recognised


class _Summary(NamedTuple):
    shape: tuple[int, ...]
    std: float

    @classmethod
    def of(cls, x: Tensor) -> _Summary:
        return cls(tuple(x.shape), float(torch.nan_to_num(x.float()).std()))

    @property
    def ndim(self) -> int:
        """Without dimensions of one entry."""
        return len([size for size in self.shape if size > 1])

    def resembles(self, other: _Summary) -> bool:
        """Up to its length and number of rows."""
        low, high = sorted((self.std, other.std))
        return self.ndim == other.ndim and (low == high or 0 < high <= _LARGEST_RATIO * low)

    def __str__(self) -> str:
        return f"shape {self.shape}, standard deviation {self.std:.3g}"


class StepInput:
    """Listens to the first call of the encoder's module in a validation step.

    A step that scales, normalises or transforms waveforms before it calls the model, or calls it with arguments of
    its own, does what the batch does not show. Modules that are compiled are not listened to: that would compile
    them anew. Nothing is raised in the user's step.

    Args:
        encoder: What the callback calls.
        module: The LightningModule.
        waveforms: Those of the batch, before the step.
    """

    def __init__(self, encoder: Encoder, module: nn.Module, waveforms: Tensor) -> None:
        self._name = encoder.name
        self._of_library = encoder.model is not None
        self._heard: tuple[_Summary, Tensor] | None = None
        self._named: dict[str, Any] = {}
        self._handle: Any = None
        self._target = encoder.target
        if (
            encoder.target is not None
            and is_plain(waveforms)
            and waveforms.numel() > 1
            and not is_compiled(module)
        ):
            self._of_batch = _Summary.of(waveforms)
            self._row = waveforms[0].flatten().clone()  # the step may change it
            # Not a hook of the module: the user's own callbacks would find it there.
            self._handle = torch_modules.register_module_forward_hook(self._listen, with_kwargs=True)

    @property
    def ndim(self) -> int | None:
        """Number of dimensions of the waveforms that the encoder was called with, if that is known."""
        return len(self._heard[0].shape) if self._heard is not None and self._heard[0].ndim <= 2 else None

    def doubt(self) -> str | None:
        """Stop listening; how what the step gave the model differs from the batch's waveforms, if it matters."""
        self._stop()
        if self._heard is None:
            return None
        heard, row = self._heard
        if not heard.resembles(self._of_batch) or _is_other(row, self._row):
            return (
                f"calls {self._name} with what the batch holds ({self._of_batch}), while your step calls it with "
                f"something else ({heard}). If the step scales, normalises, resamples or transforms its input, do "
                "the same in `batch_to_waveforms=`, or pass `embed=`, a function of the module and the segments."
            )
        if self._named:
            given = ", ".join(f"{name}={value!r}" for name, value in self._named.items())
            return (
                f"calls {self._name} with segments alone, while your step calls it with {given}. If that "
                f"changes the embeddings, pass `embed=lambda module, x: module(x, {given})`."
            )
        return None

    def _stop(self) -> None:
        if self._handle is not None:
            self._handle.remove()
            # The handle forgets this entry, and `torch.compile` would warn of it for ever.
            getattr(torch_modules, "_global_forward_hooks_with_kwargs", {}).pop(self._handle.id, None)
            self._handle = None

    def _listen(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if module is not self._target:
            return
        self._stop()
        try:
            tensors = [x for _, x in tensors_in([*args, *kwargs.values()]) if is_plain(x)]
            found = next(x for x in tensors if x.is_floating_point() and x.numel() > 1 and not x.is_meta)
            self._heard = _Summary.of(found), found[0].detach().flatten().clone()
            if not self._of_library:
                self._named = {name: value for name, value in kwargs.items() if _changes(module, name, value)}
        except Exception:  # whatever it is called with, it is the user's
            self._heard = None


def is_compiled(module: nn.Module) -> bool:
    """Whether ``torch.compile`` has been asked to compile the module, a part or a method of it.

    Example:
        >>> is_compiled(nn.Linear(1, 1)), is_compiled(torch.compile(nn.Linear(1, 1)))
        (False, True)
    """
    for submodule in module.modules():
        if hasattr(submodule, "_orig_mod") or getattr(submodule, "_compiled_call_impl", None) is not None:
            return True
        members = (member for base in type(submodule).__mro__ for member in vars(base).values())
        if any(hasattr(member, "_torchdynamo_orig_callable") for member in members):
            return True
        if any(hasattr(value, "_torchdynamo_orig_callable") for value in vars(submodule).values()):
            return True
    return False


def _changes(module: nn.Module, name: str, value: Any) -> bool:
    """Whether an argument of the step is a setting that is neither the default nor one of masks."""
    is_setting = isinstance(value, (bool, int, str)) and not is_switch(name)
    return is_setting and value != default_of(module, name)


def _is_other(heard: Tensor, row: Tensor) -> bool:
    """Whether one row is not what it was, beyond some noise: changed sample by sample, or resampled."""
    heard, row = torch.nan_to_num(heard.to(row)), torch.nan_to_num(row)
    if len(heard) == len(row):
        return bool((heard - row).norm() > _MOST_NOISE * row.norm())
    if min(len(heard), len(row)) < _PIECE:
        return False
    ratios = {a / b for a in _RATES for b in _RATES if a != b}
    if min(abs(len(heard) / len(row) / ratio - 1) for ratio in ratios) > 1e-3:
        return False
    pieces = row.unfold(0, _PIECE, 1)
    return not bool((pieces - heard[:_PIECE]).abs().amax(dim=1).le(1e-5).any())  # else a crop
