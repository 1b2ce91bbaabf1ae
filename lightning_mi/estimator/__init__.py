"""Pure functions ``(N, D), (N, D) -> MIEstimate`` on tensors; nothing here knows Lightning."""

from lightning_mi.estimator.bound import labeled_mi_bound, mi_bound
from lightning_mi.estimator.estimate import MIEstimate

__all__ = ["MIEstimate", "labeled_mi_bound", "mi_bound"]
