"""How the Trainer's strategy and precision want the model called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from torch import Tensor

_SHARDED = (FSDPStrategy, ModelParallelStrategy, DeepSpeedStrategy)
_METHOD = "_lightning_mi_encode"


@dataclass(frozen=True)
class StrategyForward:
    """Calls parts of a module as its Trainer would.

    Parameters that are sharded among the processes are put together by the wrapper's ``forward`` and by
    collectives inside, so there the call goes through the wrapper, as the Trainer's own steps do, and
    every process must make the same calls.

    Args:
        trainer: The Trainer that the module is attached to.
        module: The module.
    """

    trainer: Trainer
    module: LightningModule

    @property
    def in_lockstep(self) -> bool:
        """Whether every process must make the same number of calls."""
        return isinstance(self.trainer.strategy, _SHARDED)

    def __call__(self, call: Callable[[Tensor], Any], waveforms: Tensor) -> Any:
        """``call(waveforms)``, in the Trainer's precision and, where it must be, through its wrapper."""
        strategy = self.trainer.strategy
        with self.trainer.precision_plugin.forward_context():
            if not self.in_lockstep or strategy.model is self.module:
                return call(waveforms)
            assert strategy.model is not None
            # Redirection looks the method up by its name. The guest takes the name away again.
            vars(self.module)[_METHOD] = call
            return strategy._forward_redirection(strategy.model, self.module, _METHOD, waveforms)
