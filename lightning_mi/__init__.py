"""A label-free lower bound on mutual information, logged while a speech model trains."""

from lightning_mi.callback import MIBoundCallback
from lightning_mi.estimator import MIEstimate, labeled_mi_bound, mi_bound
from lightning_mi.metrics.bounds import LabeledMIBound, MIBound

__all__ = ["LabeledMIBound", "MIBound", "MIBoundCallback", "MIEstimate", "labeled_mi_bound", "mi_bound"]
