"""``(N, D), (N, D) -> MIEstimate``: pure tensors, which know nothing of Lightning."""

from lightning_mi.estimator.bound import MIEstimate, labeled_mi_bound, mi_bound

__all__ = ["MIEstimate", "labeled_mi_bound", "mi_bound"]
