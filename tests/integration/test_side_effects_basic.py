import lightning.pytorch as pl
import pytest
import torch
from torch import nn

from tests.helpers.models import TinySpeechModel, loader, quiet_trainer
from tests.helpers.run_callback import mi_callback
from tests.helpers.speech import utterances

DETAILS = (
    "stderr",
    "entropy",
    "cross_entropy",
    "ceiling",
    "active_clusters",
    "pairs",
    "skipped",
    "seconds",
)


@pytest.mark.parametrize("inference_mode", [True, False])
def test_training_is_the_same_with_and_without(inference_mode):
    def run(callbacks):
        pl.seed_everything(3, verbose=False)
        model = TinySpeechModel()
        model.dropout = nn.Dropout(0.5)
        trainer = quiet_trainer(max_epochs=3, callbacks=callbacks, inference_mode=inference_mode)
        trainer.fit(model, loader(utterances(100), shuffle=True), loader(utterances(100)))
        return model.state_dict(), trainer.callback_metrics["train/loss"], torch.get_rng_state()

    with_it, without = run([mi_callback()]), run([])
    assert all(torch.equal(with_it[0][name], without[0][name]) for name in without[0])
    assert torch.equal(with_it[1], without[1])
    assert torch.equal(with_it[2], without[2])
