"""Checkpoints on disk: finding the files, and loading their weights into the model."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lightning_mi.embedding.lightning_packages import is_lightning_module, overrides
from lightning_mi.reporting.plot_style import natural_order

_ENDING = ".ckpt"
_KEYS_SHOWN = 3


class UnreadableCheckpointError(ValueError):
    """A checkpoint that cannot be loaded. The message is the reason, without the path."""


@dataclass(frozen=True)
class Checkpoint:
    """A file of weights and the model that they belong to; it is read by :meth:`load` only.

    Args:
        path: A Lightning checkpoint (a mapping with a ``state_dict``) or a file with a state dict alone.
        build: Makes the model as it was before training.
        trust: Also read files that hold more than weights and plain values. Reading them runs code from the file,
            so use it only with files whose origin you know.

    Example:
        >>> import tempfile
        >>> model = torch.nn.Linear(2, 2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save({"state_dict": model.state_dict()}, f"{folder}/linear.ckpt")
        ...     loaded = Checkpoint(f"{folder}/linear.ckpt", lambda: torch.nn.Linear(2, 2)).load()
        >>> torch.equal(loaded.weight, model.weight)
        True
    """

    path: str | Path
    build: Callable[[], nn.Module]
    trust: bool = False

    def load(self) -> nn.Module:
        """Build the model and load the weights into it, on the CPU.

        A LightningModule is treated as by ``load_from_checkpoint``: its ``configure_model`` and
        ``on_load_checkpoint`` are called, and its ``strict_loading`` applies.

        Returns:
            The model, in the mode in which ``build`` returns it.

        Raises:
            UnreadableCheckpointError: If there is no such file, it is not a checkpoint, it holds objects that need
                ``trust``, or its weights do not fit the model.
            Exception: Any error of ``build``.
        """
        content = self._read()
        weights = _weights_in(content)
        model = self.build()
        strict = True
        try:
            if is_lightning_module(model):
                if overrides(model, "configure_model"):
                    model.configure_model()
                model.on_load_checkpoint(content)
                strict = model.strict_loading
            model.load_state_dict(weights, strict=strict)
        except Exception as error:
            why = _differences(model, weights) or f"loading them raised {_in_short(error)}"
            raise UnreadableCheckpointError(f"its weights do not fit {type(model).__name__}: {why}") from error
        return model

    def _read(self) -> dict[str, Any]:
        path = Path(self.path)
        if path.is_dir():
            raise UnreadableCheckpointError(
                "a folder, not a file; to turn a sharded checkpoint into one file, run "
                "`python -m lightning.pytorch.utilities.consolidate_checkpoint FOLDER`"
            )
        if not path.exists():
            raise UnreadableCheckpointError("no such file")
        try:
            content = torch.load(path, map_location="cpu", weights_only=not self.trust)
        except Exception as error:
            if named := re.search(r"Unsupported (?:global|class|operand|instruction)[^\n]*", str(error)):
                raise UnreadableCheckpointError(
                    f"it holds more than weights ({named[0].rstrip('. ')[:120]}), and reading it would run code "
                    "from the file. If you know its origin, pass `trust=True` (--trust)"
                ) from error
            # Errors of the unpickler do not help a user whose file is not a pickle.
            why = f" ({_in_short(error)})" if isinstance(error, (OSError, RuntimeError)) else ""
            raise UnreadableCheckpointError(f"not a checkpoint of torch, or a broken one{why}") from error
        if not isinstance(content, Mapping):
            raise UnreadableCheckpointError(
                f"it holds a {type(content).__name__}, not a mapping with a `state_dict`"
            )
        return dict(content)


def find_checkpoints(arguments: Iterable[str]) -> list[str]:
    """Paths of checkpoints from files, folders and globs, each once, in the order given.

    Args:
        arguments: Files; folders, which stand for all ``*.ckpt`` in them and below; globs as in a shell, with
            ``**``.

    Returns:
        The paths. Those of a folder or glob are sorted, numbers in names by their values. An argument that matches
        nothing is kept, so that loading it reports the missing file.

    Example:
        >>> find_checkpoints(["a.ckpt", "none-here-*.ckpt", "a.ckpt"])
        ['a.ckpt', 'none-here-*.ckpt']
    """
    found: dict[str, str] = {}
    for argument in arguments:
        for path in _paths(argument):
            found.setdefault(os.path.abspath(path), path)
    return list(found.values())


def _paths(argument: str) -> Sequence[str]:
    if os.path.isdir(argument):
        below = sorted(Path(argument).rglob(f"*{_ENDING}"), key=lambda path: natural_order(str(path)))
        return [str(path) for path in below] or [argument]
    if os.path.exists(argument):
        return [argument]
    return sorted(glob.glob(argument, recursive=True), key=natural_order) or [argument]


def _weights_in(content: Mapping[str, Any]) -> Mapping[str, Tensor]:
    weights = content.get("state_dict", content)
    if not isinstance(weights, Mapping) or not weights or not all(isinstance(x, Tensor) for x in weights.values()):
        keys = ", ".join(repr(key) for key in list(content)[: 2 * _KEYS_SHOWN])
        raise UnreadableCheckpointError(f"it holds no `state_dict` of tensors, but the keys {keys or '(none)'}")
    return weights


def _differences(model: nn.Module, weights: Mapping[str, Tensor]) -> str:
    """Keys and shapes in which the weights differ from the model's, in words; empty if they do not."""
    expected = model.state_dict()
    both = [name for name in expected if name in weights]
    shapes = [
        f"{name} {tuple(weights[name].shape)} for {tuple(expected[name].shape)}"
        for name in both
        if isinstance(expected[name], Tensor) and weights[name].shape != expected[name].shape
    ]
    parts = {
        "missing": [name for name in expected if name not in weights],
        "unexpected": [name for name in weights if name not in expected],
        "of another shape": shapes,
    }
    return "; ".join(f"{len(names)} {what} ({_some(names)})" for what, names in parts.items() if names)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_KEYS_SHOWN]) + (", ..." if len(names) > _KEYS_SHOWN else "")


def _in_short(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
