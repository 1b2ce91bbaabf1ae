"""A label-free lower bound on mutual information, logged while a speech model trains."""

from importlib.metadata import PackageNotFoundError, version

from lightning_mi.callback import MIBoundCallback
from lightning_mi.estimator import MIEstimate, labeled_mi_bound, mi_bound
from lightning_mi.inputs.batches import Waveforms
from lightning_mi.metrics.bounds import LabeledMIBound, MIBound

try:
    __version__ = version("lightning-mi")
except PackageNotFoundError:  # a checkout on the path that is not installed
    __version__ = "unknown"

__all__ = [
    "LabeledMIBound",
    "MIBound",
    "MIBoundCallback",
    "MIEstimate",
    "Waveforms",
    "__version__",
    "labeled_mi_bound",
    "mi_bound",
]
