"""Three self-supervised speech models whose training the examples watch.

- :class:`HuBERTModule`: masked prediction of k-means targets (HuBERT), on torchaudio's model.
- :class:`APCModule`: autoregressive predictive coding, a recurrent network that predicts log-mel frames.
- :class:`CPCModule`: contrastive predictive coding, which distinguishes future frames from others.

All read batches ``{"waveforms": (B, T) float32, "lengths": (B,) int64}`` and need torchaudio, which comes
with the ``examples`` extra. The classes are imported on first use.

Raises:
    ModuleNotFoundError: if torchaudio is not installed.
    ImportError: on first use, if the torchaudio that is installed does not fit torch.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from lightning_mi.examples.data.extras import import_extra

if TYPE_CHECKING:
    from lightning_mi.examples.models.apc import APCModule as APCModule
    from lightning_mi.examples.models.cpc import CPCModule as CPCModule
    from lightning_mi.examples.models.hubert import HuBERTModule as HuBERTModule

__all__ = ["APCModule", "CPCModule", "HuBERTModule"]

_HOMES = {"APCModule": ".apc", "CPCModule": ".cpc", "HuBERTModule": ".hubert"}

if find_spec("torchaudio") is None:
    raise ModuleNotFoundError(
        "lightning_mi.examples.models needs torchaudio, which is not installed: "
        "run `pip install 'lightning-mi[examples]'`",
        name="torchaudio",
    )


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        import_extra("torchaudio")
        return getattr(import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
