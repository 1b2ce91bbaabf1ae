"""MIBoundCallback as a callback of both Lightning packages, for programs that import ``pytorch_lightning``."""

from pytorch_lightning import Callback

from lightning_mi import callback


class MIBoundCallback(callback.MIBoundCallback, Callback):  # type: ignore[misc, unused-ignore]
    """:class:`lightning_mi.callback.MIBoundCallback`, which is also a ``pytorch_lightning.Callback``.

    A Trainer takes either class. LightningCLI of ``pytorch_lightning``, and whatever else asks for an instance of
    its own package's class, takes this one alone. ``lightning_mi.MIBoundCallback`` is this class if
    ``pytorch_lightning`` was imported before ``lightning_mi``. It logs the same bound, in nats, and checkpoints of
    one class are read by the other.

    Example:
        >>> import lightning.pytorch, pytorch_lightning
        >>> issubclass(MIBoundCallback, lightning.pytorch.Callback)
        True
        >>> issubclass(MIBoundCallback, pytorch_lightning.Callback)
        True
    """
