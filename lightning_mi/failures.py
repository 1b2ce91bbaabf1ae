"""Failures of a stage of the validation: kept on the process that met them, and agreed on by all processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from lightning_mi.distributed import gather
from lightning_mi.inputs.structure import UnknownStructureError

T = TypeVar("T")

# What the user's data and settings can bring about; a batch too large for the device is one of them.
_BAD_INPUT = (ValueError, MemoryError, torch.OutOfMemoryError)


_SAYS_ENOUGH = (UnknownStructureError, MemoryError, torch.OutOfMemoryError)
_ADVICE = (
    "The model is called with segments alone, (B, T) or (B, 1, T). If it takes anything else, pass `embed=`, the "
    "dotted name of a submodule or method that takes them, or a function of the module and the segments: "
    "`embed=lambda module, x: module({'audio': x})` where `forward` takes a batch, "
    "`embed=lambda module, x: module.encoder(module.mel(x))` where the encoder takes features. If the batch was "
    "read wrongly, pass `batch_to_waveforms=`; if it holds feature sequences, `time_dim=`; for another sampling "
    "rate `sample_rate=`."
)


_SHORT_ADVICE = "(It is called with segments alone; `embed=` and `batch_to_waveforms=` change what with.)"


class NoEstimateError(Exception):
    """There is nothing to estimate from; the message says why."""


def explained(error: Exception) -> Exception:
    """``error``, or if it is an exception of the user's code a ValueError of it that names what to change.

    Example:
        >>> isinstance(explained(KeyError("audio")), ValueError)
        True
    """
    if isinstance(error, _SAYS_ENOUGH):
        return error
    advised = UnknownStructureError(
        f"Reading or embedding a validation batch raised {type(error).__name__}: {error}. {_ADVICE}"
    )
    advised.__cause__ = error
    return advised


class Failures:
    """The first error of a stage on this process, after which the stage does nothing more.

    Attributes:
        error: That error, if there was one.

    Example:
        >>> failures = Failures()
        >>> failures.attempt(lambda: 2), failures.attempt(lambda: 1 / 0), failures.attempt(lambda: 2)
        (2, None, None)
        >>> failures.reason_of_any_process()
        'ZeroDivisionError: division by zero'
    """

    def __init__(self) -> None:
        self.error: Exception | None = None

    def attempt(self, step: Callable[[], T]) -> T | None:
        """The result of ``step``; ``None`` if it fails, or if an earlier step did."""
        if self.error is None:
            try:
                return step()
            except Exception as error:
                self.error = error
        return None

    @property
    def reason(self) -> str | None:
        """The error as text."""
        return None if self.error is None else f"{type(self.error).__name__}: {self.error}"

    def reason_of_any_process(self) -> str | None:
        """The first process's reason that there is, on every process; every process must call it."""
        return next((reason for reason in gather(self.reason) if reason is not None), None)

    def raise_or_skip(self, has_called_the_model: bool) -> None:
        """Decide with the other processes what their failures mean; every process must call it.

        Raises:
            NoEstimateError: On every process, if all failures are bad input, or every process that called the
                model failed.
            Exception: On every process, if only some of those that called the model failed: their error, and on
                the others a RuntimeError that quotes it.
        """
        is_of_the_model = has_called_the_model and not isinstance(self.error, (*_BAD_INPUT, OSError))
        advice = f" {_SHORT_ADVICE}" if is_of_the_model else ""
        own = None if self.reason is None else (f"{self.reason}{advice}", isinstance(self.error, _BAD_INPUT))
        everyone = gather((has_called_the_model, own))
        failed = [failure for _, failure in everyone if failure is not None]
        if not failed:
            return
        text = failed[0][0]
        if all(is_bad_input for _, is_bad_input in failed) or all(
            failure is not None for has_called, failure in everyone if has_called
        ):
            raise NoEstimateError(text)
        # Equal weights, and only some fail: not the settings, not the model, but a broken machine or file.
        if self.error is not None:
            raise self.error
        raise RuntimeError(f"Another process failed to embed the segments of its utterances: {text}")
