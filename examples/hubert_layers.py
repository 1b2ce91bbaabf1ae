"""A bound for every layer of torchaudio's HuBERT, untrained and trained, with labelled bounds beside it.

python examples/hubert_layers.py
"""

from typing import Any

import lightning.pytorch as pl

from lightning_mi import MIBoundCallback
from lightning_mi.examples.data import EspeakDataModule
from lightning_mi.examples.models import HuBERTModule


def bound_at_every_layer(data: EspeakDataModule) -> MIBoundCallback:
    """All transformer blocks, by a glob, with the labelled bounds of speaker and language for each."""

    def of_record(field: str) -> Any:
        return lambda batch: [getattr(data.val_utterances[i], field) for i in batch["index"].tolist()]

    return MIBoundCallback(
        num_clusters=32,
        pairs_per_utterance=4,
        layers="model.wav2vec2.encoder.transformer.layers.*",
        primary_layer="best",
        labels={"voice": of_record("voice"), "language": of_record("language")},
    )


if __name__ == "__main__":
    pl.seed_everything(0)
    data = EspeakDataModule()
    trainer = pl.Trainer(max_epochs=4, callbacks=[bound_at_every_layer(data)], log_every_n_steps=10)
    model = HuBERTModule()
    (untrained,) = trainer.validate(model, data, verbose=False)  # the first column of the pictures
    trainer.fit(model, data)
    for name, value in sorted(trainer.callback_metrics.items()):
        if name.endswith("/bound"):
            print(f"{untrained[name]:6.3f} -> {value:6.3f} nats  {name}")
