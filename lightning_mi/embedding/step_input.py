"""What the user's validation step gives the model, beside what the callback would give it."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_modules

from lightning_mi.embedding.encoder import Encoder
from lightning_mi.embedding.outputs import tensors_in

_LARGEST_RATIO = 2.0  # of two standard deviations that are called alike: crops, masks and padding differ by less


class _Summary(NamedTuple):
    shape: tuple[int, ...]
    std: float

    @classmethod
    def of(cls, x: Tensor) -> _Summary:
        return cls(tuple(x.shape), float(torch.nan_to_num(x.float()).std()))

    def resembles(self, other: _Summary) -> bool:
        """Up to its length and number of rows."""
        dims, other_dims = (len([size for size in each.shape if size > 1]) for each in (self, other))
        low, high = sorted((self.std, other.std))
        return dims == other_dims and (low == high or 0 < high <= _LARGEST_RATIO * low)

    def __str__(self) -> str:
        return f"shape {self.shape}, standard deviation {self.std:.3g}"


class StepInput:
    """Listens to the first call of the encoder's module in a validation step.

    A step that scales, normalises or transforms waveforms before it calls the model prepares them in a way that
    the batch does not show. Modules that are compiled are not listened to: that would compile them anew.

    Args:
        encoder: What the callback calls.
        module: The LightningModule.
        waveforms: Those of the batch, before the step.
    """

    def __init__(self, encoder: Encoder, module: nn.Module, waveforms: Tensor) -> None:
        self._name = encoder.name
        self._of_batch = _Summary.of(waveforms)
        self._heard: _Summary | None = None
        self._handle: Any = None
        if encoder.target is not None and not is_compiled(module):
            self._target = encoder.target
            # Not a hook of the module: the user's own callbacks would find it there.
            self._handle = torch_modules.register_module_forward_hook(self._listen, with_kwargs=True)

    def doubt(self) -> str | None:
        """Stop listening; how what the step gave the model differs from the batch's waveforms, if it matters."""
        self._stop()
        if self._heard is None or self._heard.resembles(self._of_batch):
            return None
        return (
            f"calls {self._name} with what the batch holds ({self._of_batch}), while `validation_step` calls it "
            f"with something else ({self._heard}). If the step scales, normalises or transforms its input, do the "
            "same in `batch_to_waveforms=`, or pass `embed=`, a function of the module and the segments that does."
        )

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
        tensors = (x for _, x in tensors_in([*args, *kwargs.values()]))
        found = next((x for x in tensors if x.is_floating_point() and x.numel() > 1), None)
        self._heard = None if found is None else _Summary.of(found)


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
