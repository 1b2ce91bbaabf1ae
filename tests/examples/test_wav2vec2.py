"""The example of transformers' wav2vec 2.0."""

import lightning.pytorch as pl
import pytest

from lightning_mi.examples.data import EspeakDataModule
from lightning_mi.examples.wav2vec2 import Pretraining, Print, bound


def run(folder, epochs, check_every=1, **data):
    pl.seed_everything(0, verbose=False)
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        max_epochs=epochs,
        check_val_every_n_epoch=check_every,
        num_sanity_val_steps=0,
        gradient_clip_val=1.0,
        callbacks=[bound(), Print()],
    )
    trainer.fit(Pretraining(), EspeakDataModule(root=folder, crop_seconds=1.0, val_fraction=0.375, **data))
    return trainer.callback_metrics


def test_one_epoch_logs_pairs_and_a_loss_and_prints_a_line(tmp_path, capsys):
    logged = run(tmp_path, 1, utterances=120, batch_size=16)
    assert logged["mi_bound/pairs"] > 50
    assert logged["train/contrastive"] < 5
    assert "near" in capsys.readouterr().out


@pytest.mark.slow
def test_the_bound_of_adjacent_frames_rises_above_that_of_distant_ones(tmp_path):
    logged = run(tmp_path, 6, check_every=6)
    assert logged["val/mi_bound"] > 0.25
    assert logged["val/mi_bound"] > logged["mi_bound/gap_far/bound"] + 0.2
