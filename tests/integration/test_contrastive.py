"""bound="contrastive" in a Trainer: the logged names, the message, the figures, and what a failed epoch shows."""

import math
import warnings

import pytest
from lightning.pytorch.loggers import CSVLogger

from lightning_mi import MIBoundCallback
from tests.helpers.models import TinySpeechModel, loader, quiet_trainer
from tests.helpers.speech import utterances


def test_the_partners_stand_for_the_clusters(tmp_path, caplog):
    callback = MIBoundCallback(
        bound="contrastive", segment_seconds=0.4, sample_rate=1000, pairs_per_utterance=1, null_control=False
    )
    trainer = quiet_trainer(callbacks=[callback], logger=CSVLogger(tmp_path), max_epochs=1)
    data = loader(utterances(64))
    with caplog.at_level("INFO"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(TinySpeechModel(), data, data)
    (estimate,) = callback.estimates.values()
    logged = trainer.callback_metrics
    assert logged["mi_bound/ceiling"].item() == pytest.approx(math.log(estimate.num_clusters))
    assert 28 <= estimate.num_clusters <= 36  # half of the utterances, about
    assert logged["val/mi_bound"].item() == pytest.approx(estimate.bound)
    assert f"up to {estimate.num_clusters - 1} others, of 64 pairs" in caplog.text
    assert "clusters for" not in caplog.text
    assert {path.name for path in tmp_path.rglob("*.png")} == {"curve.png"}
    assert callback._highest_ceiling() == math.log(4096)
