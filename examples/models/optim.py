"""The optimiser that both models use."""

from collections.abc import Iterable

from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR


def warmup_adamw(
    parameters: Iterable[nn.Parameter],
    *,
    lr: float,
    weight_decay: float,
    warmup_steps: int,
    total_steps: int | None = None,
    betas: tuple[float, float] = (0.9, 0.98),
    eps: float = 1e-6,
) -> OptimizerLRSchedulerConfig:
    """AdamW whose learning rate rises linearly from nothing, then stays or falls linearly.

    The shape of the schedule, ``betas`` and ``eps`` are those of HuBERT's pre-training (Hsu et al. 2021,
    arXiv:2106.07447).

    Args:
        parameters: what to train.
        lr: the highest learning rate.
        weight_decay: decoupled weight decay.
        warmup_steps: optimiser steps to reach ``lr``; 0 starts there.
        total_steps: step at which the rate has fallen to zero, or None to stay at ``lr``.
        betas: Adam's decay rates.
        eps: Adam's epsilon.

    Returns:
        What ``configure_optimizers`` returns: the optimiser and a schedule by step.

    Raises:
        ValueError: if ``total_steps`` is not above ``warmup_steps``.
    """
    if total_steps is not None and total_steps <= warmup_steps:
        raise ValueError(
            f"total_steps: got {total_steps} with warmup_steps={warmup_steps}, expected more than "
            "warmup_steps; raise it, or pass None for no decay"
        )

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        if total_steps is None:
            return 1.0
        return max(0.0, (total_steps - step) / (total_steps - warmup_steps))

    optimizer = AdamW(parameters, lr=lr, weight_decay=weight_decay, betas=betas, eps=eps)
    return {
        "optimizer": optimizer,
        "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"},
    }
