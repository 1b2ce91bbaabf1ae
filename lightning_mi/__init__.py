"""A label-free lower bound on mutual information, logged while a speech model trains."""

import sys
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from lightning_mi.estimator import MIEstimate, labeled_mi_bound, mi_bound
from lightning_mi.inputs.batches import Waveforms
from lightning_mi.metrics.bounds import LabeledMIBound, MIBound

# A program that goes by the older name needs its class, for its LightningCLI; others do not pay for that import.
if TYPE_CHECKING or "pytorch_lightning" not in sys.modules:
    from lightning_mi.callback import MIBoundCallback
else:
    from lightning_mi.pytorch_lightning import MIBoundCallback

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
