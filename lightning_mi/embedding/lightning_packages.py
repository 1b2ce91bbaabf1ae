"""Lightning's two packages, ``lightning.pytorch`` and ``pytorch_lightning``: their classes recognised by name.

They hold the same code under two names, so a class of one is no subclass of the other's. Modules, Trainers and
strategies of the old name are the same to us.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, TypeGuard

from lightning.pytorch import LightningModule
from torch import nn

_PACKAGES = ("lightning.pytorch.", "pytorch_lightning.")
_SHARDED = {"FSDPStrategy", "ModelParallelStrategy", "DeepSpeedStrategy"}


def is_lightning_module(model: Any) -> TypeGuard[LightningModule]:
    """Whether ``model`` is a LightningModule of either package.

    Example:
        >>> from lightning.pytorch import LightningModule
        >>> is_lightning_module(LightningModule()), is_lightning_module(nn.Linear(1, 1))
        (True, False)
    """
    return "LightningModule" in _lightning_names(type(model))


def is_sharded(strategy: Any) -> bool:
    """Whether a Trainer's strategy of either package shards the model's parameters among processes.

    Example:
        >>> from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy
        >>> is_sharded(FSDPStrategy()), is_sharded(DDPStrategy())
        (True, False)
    """
    return not _SHARDED.isdisjoint(_lightning_names(type(strategy)))


def overrides(module: nn.Module, method: str) -> bool:
    """Whether ``module`` has a ``method`` of its own, beside those that torch and Lightning give to all modules.

    Example:
        >>> from lightning.pytorch import LightningModule
        >>> class Mine(LightningModule):
        ...     def validation_step(self, batch, batch_idx): ...
        >>> overrides(Mine(), "validation_step"), overrides(Mine(), "configure_model")
        (True, False)
    """
    if method in vars(module):
        return True
    defined_in = next((base for base in type(module).__mro__ if method in vars(base)), nn.Module)
    cores = tuple(f"{package}core." for package in _PACKAGES)
    return defined_in is not nn.Module and not defined_in.__module__.startswith(cores)


def callbacks_of_the_other_package(trainer: Any) -> list[str]:
    """Lightning's own callbacks in a Trainer that is of the other package, by their full names.

    The Trainer takes them and does not know them for what they are: a ModelCheckpoint of the other package does
    not run last, and ``ckpt_path="best"`` restores that of another, which the Trainer has added. A user's own
    subclass of ``Callback`` works in both.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> from lightning.pytorch.callbacks import EarlyStopping
        >>> callbacks_of_the_other_package(Trainer(logger=False, callbacks=[EarlyStopping("val/mi_bound")]))
        []
    """
    own = next((package for package in _PACKAGES if _bases_in(package, type(trainer))), None)
    others = [package for package in _PACKAGES if own is not None and package != own]
    found = {
        f"{base.__module__.split('.callbacks')[0]}.callbacks.{base.__name__}": None
        for package in others
        for callback in trainer.callbacks
        for base in _bases_in(package, type(callback))[:1]
        if base.__name__ != "Callback"
    }
    return list(found)


def is_lightning_handler(handler: Any) -> bool:
    """Whether a signal's handler, or what it calls first, is that of a Trainer of either package.

    Example:
        >>> import signal
        >>> is_lightning_handler(signal.default_int_handler)
        False
    """
    return "_HandlersCompose" in _lightning_names(type(handler))


def sigterm_exception(trainer: Any) -> BaseException:
    """The exception by which a Trainer of either package ends on a SIGTERM.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> sigterm_exception(Trainer(logger=False))
        SIGTERMException()
    """
    exceptions = import_module(f"{package_of(trainer)}.utilities.exceptions")
    made: BaseException = exceptions.SIGTERMException()
    return made


def package_of(trainer: Any) -> str:
    """The package of a Trainer, ``"lightning.pytorch"`` or ``"pytorch_lightning"``, also of the user's own class.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> class Mine(Trainer): ...
        >>> package_of(Mine(logger=False))
        'lightning.pytorch'
    """
    own = (package for package in _PACKAGES if _bases_in(package, type(trainer)))
    return next(own, _PACKAGES[0]).rstrip(".")


def _bases_in(package: str, made: type) -> list[type]:
    return [base for base in made.__mro__ if base.__module__.startswith(package)]


def _lightning_names(made: type) -> set[str]:
    return {base.__name__ for base in made.__mro__ if base.__module__.startswith(_PACKAGES)}
