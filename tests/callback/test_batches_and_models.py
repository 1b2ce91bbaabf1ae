"""MIBoundCallback() without an argument, on batches and models of many structures."""

from collections import namedtuple

import lightning.pytorch as pl
import pytest
import torch
import torchaudio
import transformers
from torch import nn
from torch.utils.data import DataLoader

from lightning_mi import MIBoundCallback, mi_bound
from lightning_mi.inputs.batches import Waveforms
from tests.helpers.library_models import SMALL_WAV2VEC2, hubert_pretrain, transformers_config
from tests.helpers.models import TinySpeechModel, quiet_trainer
from tests.helpers.run_callback import PAPER, mi_callback, run_callback, validate
from tests.helpers.speech import utterances

RATE = 16_000
GENERATOR = torch.Generator().manual_seed(0)
SPEECH = torch.randn(128, 1, 20_000, generator=GENERATOR) * torch.linspace(0.1, 1, 128)[:, None, None]
LENGTHS = torch.randint(16_000, 20_001, (128,), generator=GENERATOR)
SPEECH = SPEECH * (torch.arange(20_000) < LENGTHS[:, None, None])
Recipe = namedtuple("Recipe", ["inputs", "labels"])


class Structured(pl.LightningModule):
    """A module whose validation step does nothing: only the callback looks at the batch."""

    def __init__(self, model=None, output=None):
        super().__init__()
        self.model = nn.Sequential(nn.Conv1d(1, 6, 400, 320), nn.ReLU()) if model is None else model
        self.output = output

    def validation_step(self, batch, batch_idx):
        pass

    def forward(self, x):
        frames = self.model(x.reshape(len(x), 1, -1)).transpose(1, 2)
        return frames if self.output is None else self.output(frames)


def batches(make):
    return DataLoader(range(128), batch_size=16, collate_fn=lambda rows: make(SPEECH[rows], LENGTHS[rows]))


BATCHES = {
    "tensor": lambda x, n: x[:, 0],
    "with channel": lambda x, n: x,
    "tuple": lambda x, n: (x[:, 0], n),
    "list": lambda x, n: [x[:, 0], n],
    "namedtuple, torchaudio's recipe": lambda x, n: Recipe((x[:, 0], torch.zeros(len(x), 50).long(), n), ()),
    "dict": lambda x, n: {"input_values": x[:, 0], "attention_mask": torch.arange(20_000) < n[:, None]},
    "list of waveforms": lambda x, n: [row[0, :k] for row, k in zip(x, n, strict=True)],
}


@pytest.mark.parametrize("make", BATCHES.values(), ids=BATCHES)
def test_batch_structures(make):
    trainer = quiet_trainer(callbacks=[MIBoundCallback()])
    (logged,) = trainer.validate(Structured(), batches(make), verbose=False)
    assert logged["mi_bound/pairs"] == 128
    reference = quiet_trainer(callbacks=[MIBoundCallback(num_clusters=4)])
    (expected,) = reference.validate(trainer.lightning_module, batches(BATCHES["tuple"]), verbose=False)
    assert logged["val/mi_bound"] == pytest.approx(expected["val/mi_bound"], abs=1e-5)


OUTPUTS = {
    "frames": None,
    "pooled": lambda frames: frames.mean(dim=1),
    "list of layers": lambda frames: [torch.zeros_like(frames), frames],
    "with lengths": lambda frames: (frames, torch.full((len(frames),), frames.shape[1])),
    "ModelOutput": lambda frames: transformers.modeling_outputs.BaseModelOutput(last_hidden_state=frames),
}


@pytest.mark.parametrize("output", OUTPUTS.values(), ids=OUTPUTS)
def test_output_structures(output):
    torch.manual_seed(1)
    module = Structured(output=output)
    trainer = quiet_trainer(callbacks=[MIBoundCallback(num_clusters=4, **PAPER)])
    (logged,) = trainer.validate(module, batches(BATCHES["tensor"]), verbose=False)
    module.output = None
    (expected,) = trainer.validate(module, batches(BATCHES["tensor"]), verbose=False)
    assert logged["val/mi_bound"] == pytest.approx(expected["val/mi_bound"], abs=1e-5)
    assert logged["val/mi_bound"] > 0.1


@pytest.mark.parametrize(
    "model",
    [
        lambda: torchaudio.models.wav2vec2_model(**SMALL_WAV2VEC2, aux_num_out=None),
        hubert_pretrain,
        lambda: transformers.Wav2Vec2Model(transformers_config("Wav2Vec2")),
        lambda: transformers.Wav2Vec2ForPreTraining(transformers_config("Wav2Vec2")),
    ],
    ids=["torchaudio Wav2Vec2", "torchaudio HuBERT pre-training", "transformers", "transformers pre-training"],
)
def test_known_models_need_no_argument(model):
    trainer = quiet_trainer(callbacks=[MIBoundCallback()])
    (logged,) = trainer.validate(
        Structured(model()), batches(BATCHES["namedtuple, torchaudio's recipe"]), verbose=False
    )
    assert logged["mi_bound/pairs"] == 128
    assert 0 <= logged["val/mi_bound"] <= logged["mi_bound/ceiling"]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true", "64-true"])
def test_the_trainers_precision(precision):
    seen = set()

    class Records(TinySpeechModel):
        def spectrum(self, x):
            product = (x[:, :1] @ x[:, :1].T).dtype if x.ndim == 2 else None
            seen.add((x.dtype, product))
            return super().spectrum(x)

        def validation_step(self, batch, batch_idx):
            pass

    logged, _ = validate(Records(), trainer={"precision": precision})
    expected = {
        "32-true": (torch.float32, torch.float32),
        "bf16-mixed": (torch.float32, torch.bfloat16),
        "bf16-true": (torch.bfloat16, torch.bfloat16),
        "64-true": (torch.float64, torch.float64),
    }[precision]
    assert seen == {expected}
    assert logged["val/mi_bound"] > 0.2


def test_groups_of_the_users_own():
    x = utterances(200)
    items = [(row, index // 20) for index, row in enumerate(x)]
    own = mi_callback(batch_to_waveforms=lambda batch: Waveforms(batch[0], None, batch[1]))
    module = TinySpeechModel()
    module.validation_step = lambda batch, batch_idx: None
    quiet_trainer(callbacks=[own]).validate(module, DataLoader(items, batch_size=32), verbose=False)
    assert own.estimates["output", "near"].num_groups == 10


def by_hand(module, rows, callback):
    """The bound of the same segments' embeddings, without the callback."""
    waves = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    segments = callback.sampler(Waveforms(waves, torch.tensor([len(row) for row in rows])))
    with torch.no_grad():
        z = module(segments.samples.flatten(0, 1)).mean(dim=1).unflatten(0, segments.samples.shape[:2])
    order = segments.keys.argsort()
    return mi_bound(z[order, 0], z[order, 1], 4, groups=segments.groups[order]).bound


ROWS = [row[0, :n] for row, n in zip(SPEECH, LENGTHS.tolist(), strict=True)]
RATES = {
    "of the batch": lambda x, n: {"audio": x[:, 0], "lengths": n, "sampling_rate": 8000},
    "of rows": lambda x, n: [(row[:, :k], 8000, "said") for row, k in zip(x, n.tolist(), strict=True)],
}


@pytest.mark.parametrize("make", RATES.values(), ids=RATES)
def test_batches_of_another_rate_are_resampled_and_it_is_said_once(make):
    run = run_callback(Structured(), batches(make), callback=MIBoundCallback("paper", num_clusters=4))
    rows = [torchaudio.transforms.Resample(1, 2)(row) for row in ROWS]
    assert run.bound == pytest.approx(by_hand(run.trainer.lightning_module, rows, run.callback), abs=1e-5)
    (said,) = run.warnings
    assert "8000 Hz" in said
    assert "`sample_rate=16000`" in said


class ChangesItsBatch(Structured):
    """A validation step that masks its batch in place."""

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        if "audio" in batch:
            batch["audio"][:, 4000:] = 0
            batch.clear()


def test_what_the_step_changes_in_its_batch_is_not_seen():
    data = batches(lambda x, n: {"audio": x[:, 0].clone(), "lengths": n})
    run = run_callback(ChangesItsBatch(), data, callback=MIBoundCallback("paper", num_clusters=4))
    assert run.bound == pytest.approx(by_hand(run.trainer.lightning_module, ROWS, run.callback), abs=1e-5)
    assert run.warnings == []


class NoStep(TinySpeechModel):
    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        pass


def test_a_loader_without_audio_is_left_out_and_said_once():
    text = DataLoader([{"text": torch.arange(5)}] * 8, batch_size=4)
    audio = batches(lambda x, n: {"audio": x[:, 0].clone(), "lengths": n})
    for loaders in ([text, audio], [audio, text]):
        run = run_callback(ChangesItsBatch(), loaders, callback=MIBoundCallback("paper", num_clusters=4))
        assert run.bound == pytest.approx(by_hand(run.trainer.lightning_module, ROWS, run.callback), abs=1e-5)
        (said,) = run.warnings
        assert f"leaves out the dataloader(s) {loaders.index(text)}" in said
    with pytest.raises(ValueError, match="holds the waveforms"):
        run_callback(NoStep(), [text, text], "fit")


def test_clips_that_are_all_too_short_are_an_error_in_the_sanity_check():
    with pytest.raises(ValueError, match=r"0\.9 s(.|\n)*Pass `segment_seconds=0\.45`"):
        run_callback(data=utterances(64, seconds=0.9), fn="fit")


class TakesTheIterator(TinySpeechModel):
    def validation_step(self, dataloader_iter):
        next(dataloader_iter)


def test_a_step_that_takes_the_iterator_is_told_and_trains():
    run = run_callback(TakesTheIterator(), utterances(40), fn="fit", num_clusters=4)
    assert run.trainer.current_epoch == 1
    assert "val/mi_bound" not in run.logged
    assert len([text for text in run.warnings if "takes `dataloader_iter`" in text]) == 1


class StatesARate(TinySpeechModel):
    def __init__(self, sample_rate):
        super().__init__()
        self.save_hyperparameters()


@pytest.mark.parametrize(("stated", "batch", "said"), [(8000, None, 1), (1000, None, 0), (8000, 1000, 0)])
def test_a_rate_that_the_module_states_and_the_callback_does_not_know(stated, batch, said):
    x = utterances(40)
    collate = torch.stack if batch is None else (lambda rows: {"audio": torch.stack(rows), "sampling_rate": batch})
    data = DataLoader(list(x), batch_size=20, collate_fn=collate)
    model = StatesARate(stated)
    model.validation_step = lambda batch, batch_idx: None
    run = run_callback(model, data, num_clusters=4)
    assert len([text for text in run.warnings if "states 8000 Hz" in text]) == said
