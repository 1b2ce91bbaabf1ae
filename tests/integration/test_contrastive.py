"""bound="contrastive" in a Trainer: the logged names, the message, the figures, and what a failed epoch shows."""

import math
import warnings

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from lightning_mi import MIBoundCallback
from tests.helpers.models import TinySpeechModel, loader, quiet_trainer
from tests.helpers.run_callback import run_callback
from tests.helpers.speech import utterances


def test_the_partners_stand_for_the_clusters(tmp_path, caplog):
    callback = MIBoundCallback(
        bound="contrastive", segment_seconds=0.4, sample_rate=1000, pairs_per_utterance=1, null_control=False
    )
    trainer = quiet_trainer(callbacks=[callback], logger=CSVLogger(tmp_path), max_epochs=1)
    data = loader(utterances(96))
    with caplog.at_level("INFO"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(TinySpeechModel(), data, data)
    (estimate,) = callback.estimates.values()
    logged = trainer.callback_metrics
    assert logged["mi_bound/ceiling"].item() == pytest.approx(math.log(estimate.num_clusters))
    assert 44 <= estimate.num_clusters <= 52  # half of the utterances, about
    assert logged["val/mi_bound"].item() == pytest.approx(estimate.bound)
    assert f"up to {estimate.num_clusters - 1} others, of 96 pairs" in caplog.text
    assert "clusters for" not in caplog.text
    assert {path.name for path in tmp_path.rglob("*.png")} == {"curve.png"}
    assert callback._highest_ceiling() == math.log(4096)


@pytest.mark.parametrize("pairs", [1, None])
def test_utterances_with_nan_are_counted_once(pairs):
    class SomeNan(TinySpeechModel):
        def forward(self, x):
            y = super().forward(x)
            return torch.where(x[:, :1, None] > 0, y, torch.nan)  # by the sign of the first sample

    x = utterances(40, seconds=8)
    x = torch.where(torch.arange(40)[:, None] < 10, -x.abs() - 0.01, x.abs() + 0.01)
    run = run_callback(SomeNan(), x, pairs_per_utterance=pairs, input_baseline=False, null_control=False)
    assert run.logged["mi_bound/skipped"] == 10
    assert any("leaves out 10 utterances" in text for text in run.warnings)
