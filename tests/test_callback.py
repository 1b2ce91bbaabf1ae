import csv
import math
import sys
import warnings
from collections import namedtuple

import lightning.pytorch as pl
import pytest
import torch
import torchaudio
import transformers
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import nn
from torch.utils.data import DataLoader

from lightning_mi import MIBoundCallback, mi_bound
from lightning_mi.controls.input_baseline import log_mel
from lightning_mi.inputs.batches import Waveforms
from lightning_mi.inputs.segments import SegmentSampler, parse_gaps
from tests.helpers.copies import chords
from tests.helpers.support import (
    PAPER,
    SAMPLE_RATE,
    SMALL_WAV2VEC2,
    TinySpeechModel,
    Utterances,
    hubert_pretrain,
    loader,
    quiet_trainer,
    transformers_config,
    utterances,
)

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


def callback(**kwargs):
    return MIBoundCallback(**({"num_clusters": 8, "sample_rate": SAMPLE_RATE} | PAPER | kwargs))


def validate(module=None, batches=None, one=None, trainer=None, **kwargs):
    """One validation epoch: what it logged, and the warnings of the callback."""
    one = callback(**kwargs) if one is None else one
    module = TinySpeechModel() if module is None else module
    batches = loader(utterances(200)) if batches is None else batches
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        (logged,) = quiet_trainer(callbacks=[one], **(trainer or {})).validate(module, batches, verbose=False)
    return logged, [str(w.message) for w in caught if "MIBoundCallback" in str(w.message)]


# ---- the number


@pytest.mark.parametrize("setting", ["the defaults", "the paper's"])
def test_logs_what_the_estimator_says_about_the_segments(setting):
    """The whole path, written out: segments, embeddings one utterance at a time, and the pure function."""
    paper = setting == "the paper's"
    module, x = TinySpeechModel(), utterances(200) if paper else chords(200, seconds=2.0)
    one = MIBoundCallback(num_clusters=8, sample_rate=SAMPLE_RATE, **(PAPER if paper else {}))
    logged, warned = validate(module, loader(x), one)
    sampler = SegmentSampler(
        0.5, parse_gaps("near"), SAMPLE_RATE, seed=0, channels="shared" if paper else "independent"
    )
    segments = sampler(Waveforms(x, torch.full((200,), x.shape[1])))
    with torch.no_grad():
        frames = torch.stack([module(pair) for pair in segments.samples])
    z = frames.mean(dim=2) if paper else torch.stack([frames[:, 0, -1], frames[:, 1, 0]], dim=1)
    quantizer = "kmeans" if paper else "canonical"
    reference = mi_bound(z[:, 0], z[:, 1], 8, groups=segments.groups, quantizer=quantizer)
    # Encoding one by one rounds differently, which may move a point across a border of clusters.
    assert logged["val/mi_bound"] == pytest.approx(reference.bound, abs=2e-2)
    assert logged["mi_bound/stderr"] == pytest.approx(reference.stderr, abs=2e-3)
    assert logged["mi_bound/entropy"] == pytest.approx(reference.entropy, abs=2e-2)
    assert logged["mi_bound/cross_entropy"] == pytest.approx(reference.cross_entropy, abs=2e-2)
    assert logged["mi_bound/ceiling"] == pytest.approx(torch.tensor(8.0).log().item())
    assert logged["mi_bound/active_clusters"] == 8
    assert logged["mi_bound/pairs"] == 200
    assert logged["mi_bound/skipped"] == 0
    assert logged["mi_bound/seconds"] > 0
    assert logged["val/mi_bound"] > (0.3 if paper else 0.05)
    assert not warned


@pytest.mark.parametrize("max_pairs", [4096, 120])
def test_any_batch_order_and_batch_size_give_the_same_number(max_pairs):
    module, x = TinySpeechModel(), utterances(200)
    reference, _ = validate(module, loader(x), max_pairs=max_pairs)
    shuffled, _ = validate(module, loader(x[torch.randperm(200)], batch_size=7), max_pairs=max_pairs)
    assert shuffled["val/mi_bound"] == pytest.approx(reference["val/mi_bound"], abs=1e-5)
    assert shuffled["mi_bound/pairs"] == min(200, max_pairs)


def test_several_gaps_in_one_pass():
    module, x = TinySpeechModel(), utterances(200)
    logged, _ = validate(module, loader(x), gap_seconds=["far", "near", 0.25])
    assert logged["val/mi_bound"] == logged["mi_bound/gap_far/bound"]
    for gap in ("far", "near", "0.25"):
        assert logged[f"mi_bound/gap_{gap}/stderr"] > 0
    bounds = [logged[f"mi_bound/gap_{gap}/bound"] for gap in ("near", "far")]
    assert min(bounds) > 0
    assert logged["mi_bound/near_minus_far"] == pytest.approx(bounds[0] - bounds[1], abs=1e-5)
    # The same pairs and the same split: what is hard in an utterance is hard in both.
    errors = [logged[f"mi_bound/gap_{gap}/stderr"] for gap in ("near", "far")]
    assert 0 < logged["mi_bound/near_minus_far_stderr"] < 2 * math.hypot(*errors)
    alone, _ = validate(module, loader(x), gap_seconds="far")
    assert logged["val/mi_bound"] == pytest.approx(alone["val/mi_bound"], abs=1e-5)
    assert not any("gap_" in name or "local" in name for name in alone)


def test_several_pairs_an_utterance():
    logged, _ = validate(batches=loader(utterances(60, seconds=4.0)), pairs_per_utterance=5)
    assert logged["mi_bound/pairs"] == 300
    few, _ = validate(batches=loader(utterances(60, seconds=4.0)), pairs_per_utterance=5, max_pairs=100)
    assert few["mi_bound/pairs"] == 100


def test_layers():
    logged, _ = validate(layers=["rnn", "head"], embed=lambda module, x: module.head(module(x)))
    assert logged["val/mi_bound"] == logged["mi_bound/layers/head/bound"]
    assert logged["mi_bound/layers/rnn/bound"] != logged["mi_bound/layers/head/bound"]
    assert logged["mi_bound/layers/rnn/stderr"] > 0


@pytest.mark.parametrize("primary", ["rnn", "best"])
def test_primary_layer(primary):
    module = TinySpeechModel()
    arguments = {"layers": ["rnn", "head"], "embed": "predict", "gap_seconds": ["near", "far"]}
    plain, _ = validate(module, **arguments)
    chosen, _ = validate(module, primary_layer=primary, **arguments)
    layers = {name: plain[f"mi_bound/layers/{name}/bound"] for name in ("rnn", "head")}
    assert plain["val/mi_bound"] == layers["head"]
    assert chosen["val/mi_bound"] == (layers["rnn"] if primary == "rnn" else max(layers.values()))
    assert chosen["mi_bound/gap_near/bound"] == chosen["val/mi_bound"]
    assert chosen["mi_bound/layers/head/bound"] == layers["head"]


def test_bad_primary_layer():
    with pytest.raises(
        ValueError, match=r"`primary_layer` must be one of the layers.*'nose'.*The layers are rnn, head"
    ):
        validate(layers=["rnn", "head"], primary_layer="nose")
    with pytest.raises(TypeError, match="`primary_layer` must be the name"):
        callback(primary_layer=3)


def test_pooling_and_seed_change_the_number():
    module = TinySpeechModel()
    values = {
        validate(module, **kwargs)[0]["val/mi_bound"] for kwargs in ({}, {"pooling": "boundary"}, {"seed": 1})
    }
    assert len(values) == 3


class Loudness(TinySpeechModel):
    """Hears how loud a segment is, and nothing else."""

    def forward(self, x):
        return x.reshape(len(x), 1, -1).square().mean(-1, keepdim=True).log()

    def validation_step(self, batch, batch_idx):
        pass


def test_own_channels_take_away_what_the_channel_tells():
    generator = torch.Generator().manual_seed(0)
    loud = 10 ** (torch.rand(600, 1, generator=generator) * 1.5 - 1)  # 30 dB
    batches = loader(loud * torch.randn(600, 2000, generator=generator))
    shared, own = (validate(Loudness(), batches, channels=channels)[0] for channels in ("shared", "independent"))
    assert shared["val/mi_bound"] > 1.5
    assert own["val/mi_bound"] < 0.7 * shared["val/mi_bound"]  # 18 dB of the segments' own stand beside the 30
    assert own["mi_bound/pairs"] == shared["mi_bound/pairs"]


def test_own_channels_leave_the_pairs_and_do_not_depend_on_the_batches():
    x = utterances(200)
    module = TinySpeechModel()
    one, many = (validate(module, loader(x, size), channels="independent")[0] for size in (200, 7))
    assert one["val/mi_bound"] == pytest.approx(many["val/mi_bound"], abs=1e-5)


class Clears(TinySpeechModel):
    """Training takes away the noise that stands over its features: the truth rises at every step."""

    def __init__(self):
        super().__init__(lr=0.3)
        self.noise = nn.Parameter(torch.tensor(3.0))

    def forward(self, x):
        features = self.spectrum(x)
        return features + self.noise * torch.randn_like(features).mean(dim=1, keepdim=True)

    def loss(self, batch):
        return (self(batch) - self.spectrum(batch)).square().mean()


def test_rises_while_a_model_trains_and_picks_the_best_checkpoint(tmp_path):
    monitor = ModelCheckpoint(dirpath=tmp_path, monitor="val/mi_bound", mode="max", save_top_k=1)
    curve = []

    class Keep(pl.Callback):
        def on_validation_end(self, trainer, pl_module):
            if not trainer.sanity_checking:
                curve.append(trainer.callback_metrics["val/mi_bound"].item())

    trainer = quiet_trainer(max_epochs=6, callbacks=[callback(), monitor, Keep()], enable_checkpointing=True)
    model = Clears()
    untrained, _ = validate(model, loader(utterances(300)))
    trainer.fit(model, loader(utterances(256, seed=1)), loader(utterances(300)))
    assert len(curve) == 6
    assert max(curve) > untrained["val/mi_bound"] + 3 * untrained["mi_bound/stderr"]
    assert monitor.best_model_score.item() == max(curve)
    assert f"epoch={curve.index(max(curve))}" in monitor.best_model_path


def test_gain_over_the_best_epoch_before():
    rows, estimates = [], []

    class Keep(pl.Callback):
        def on_validation_end(self, trainer, pl_module):
            rows.append({name: value.item() for name, value in trainer.logged_metrics.items()})
            estimates.append(one.estimates["output", "near"])

    one = callback()
    trainer = quiet_trainer(max_epochs=5, callbacks=[one, Keep()], num_sanity_val_steps=0)
    trainer.fit(Clears(), loader(utterances(64, seed=1)), loader(utterances(300)))
    assert "mi_bound/gain" not in rows[0]
    for epoch in range(1, 5):
        best = max(estimates[:epoch], key=lambda estimate: estimate.bound)
        gain, stderr = estimates[epoch].gain_over(best)
        assert rows[epoch]["mi_bound/gain"] == pytest.approx(gain, abs=1e-5)
        assert rows[epoch]["mi_bound/gain_stderr"] == pytest.approx(stderr, abs=1e-5)
        assert rows[epoch]["val/mi_bound"] - best.bound == pytest.approx(gain, abs=1e-4)
    trainer.validate(TinySpeechModel(), loader(utterances(300)), verbose=False)
    assert "mi_bound/gain" not in trainer.callback_metrics


def test_other_utterances_have_no_gain():
    class Changes(TinySpeechModel):
        def val_dataloader(self):
            return loader(utterances(100, seed=self.current_epoch))

    trainer = quiet_trainer(max_epochs=2, callbacks=[callback()], reload_dataloaders_every_n_epochs=1)
    trainer.fit(Changes(), loader(utterances(32)))
    assert trainer.callback_metrics["mi_bound/pairs"] == 100
    assert "mi_bound/gain" not in trainer.callback_metrics


@pytest.mark.parametrize("pooling", ["mean", "boundary"])
def test_input_baseline_is_the_bound_of_log_mel_frames_measured_once(pooling):
    x, measured = utterances(200), []
    segments = SegmentSampler(0.5, parse_gaps("near"), SAMPLE_RATE, seed=0)(Waveforms(x, torch.full((200,), 2000)))
    frames = log_mel(segments.samples.flatten(0, 1), SAMPLE_RATE).unflatten(0, (200, 2))
    z = torch.cat([frames.mean(dim=2), frames.std(dim=2, correction=0)], dim=2)
    if pooling == "boundary":  # what adjacent frames of the model have to beat is adjacent frames
        z = torch.stack([frames[:, 0, -1], frames[:, 1, 0]], dim=1)
    order = segments.keys.argsort()
    reference = mi_bound(z[order, 0], z[order, 1], 8, groups=segments.groups[order])
    one = callback(pooling=pooling)
    features = one._input_features
    one._input_features = lambda segments: measured.append(len(segments)) or features(segments)
    seen = []

    class Keep(pl.Callback):
        def on_validation_end(self, trainer, pl_module):
            if not trainer.sanity_checking:
                seen.append(trainer.callback_metrics["mi_bound/input"].item())

    quiet_trainer(callbacks=[one, Keep()], max_epochs=3).fit(TinySpeechModel(), loader(x[:32]), loader(x))
    assert sum(measured) == 400
    assert seen == pytest.approx([reference.bound] * 3, abs=1e-5)
    assert reference.bound > 0.1
    assert "mi_bound/input" not in validate(input_baseline=False)[0]


def test_the_input_baseline_decides_on_no_pair():
    x = utterances(200)
    x[:20] *= 1e25  # finite; their power is not
    logged, said = validate(batches=loader(x))
    assert logged["mi_bound/pairs"] == 200
    assert "mi_bound/input" not in logged
    assert any("logs no input" in message for message in said)


def test_without_torchaudio_there_is_no_input_baseline(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchaudio.functional", None)
    logged, said = validate()
    assert logged["val/mi_bound"] > 0
    assert "mi_bound/input" not in logged
    assert "mi_bound/null" not in logged
    assert not said


def test_a_failing_input_baseline_does_not_take_the_bound_with_it(monkeypatch):
    calls = []

    def fails_later(segments, sample_rate):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("no such transform here")
        return log_mel(segments, sample_rate)

    monkeypatch.setattr("lightning_mi.callback.log_mel", fails_later)
    module = TinySpeechModel()
    plain, _ = validate(module, input_baseline=False, null_control=False)
    logged, said = validate(module)
    assert len(calls) == 3
    assert logged["val/mi_bound"] == plain["val/mi_bound"]
    assert "mi_bound/input" not in logged
    assert "mi_bound/null" not in logged  # which is of the same features
    assert len(said) == 2
    for name, message in zip(("input", "null"), said, strict=True):
        assert f"logs no {name}: RuntimeError: no such transform here" in message


@pytest.mark.parametrize("option", [{"quantizer": "whitened"}, {"quantizer": "canonical"}])
def test_options_reach_the_estimator(option):
    module, x = TinySpeechModel(), utterances(200)
    plain, _ = validate(module, loader(x))
    other, _ = validate(module, loader(x), **option)
    assert other["val/mi_bound"] != plain["val/mi_bound"]
    assert other["val/mi_bound"] > 0.1


@pytest.mark.parametrize("sanity", [0, 2])
def test_early_stopping_from_the_first_epoch(sanity):
    stopping = EarlyStopping("val/mi_bound", mode="max", patience=2, strict=True)
    trainer = quiet_trainer(max_epochs=10, callbacks=[stopping, callback()], num_sanity_val_steps=sanity)
    trainer.fit(TinySpeechModel(lr=0.0), loader(utterances(64)), loader(utterances(100)))
    assert trainer.current_epoch == 3  # a model that does not learn: the best epoch is the first
    assert stopping.stopped_epoch == 2


@pytest.mark.parametrize("run", ["fit", "validate", "test"])
def test_logged_in_every_kind_of_run(run):
    trainer, model, x = quiet_trainer(callbacks=[callback()]), TinySpeechModel(), utterances(100)
    if run == "fit":
        trainer.fit(model, loader(x), loader(x))
    else:
        getattr(trainer, run)(model, loader(x), verbose=False)
    assert {"val/mi_bound", *(f"mi_bound/{name}" for name in DETAILS)} <= trainer.callback_metrics.keys()


def test_progress_bar_and_loggers(tmp_path):
    loggers = [CSVLogger(tmp_path, name="csv"), TensorBoardLogger(tmp_path, name="tb")]
    trainer = quiet_trainer(max_epochs=2, callbacks=[callback()], logger=loggers)
    trainer.fit(TinySpeechModel(), loader(utterances(64)), loader(utterances(100)))
    assert "val/mi_bound" in trainer.progress_bar_metrics
    assert "mi_bound/stderr" not in trainer.progress_bar_metrics
    written = (tmp_path / "csv/version_0/metrics.csv").read_text()
    assert "val/mi_bound" in written
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tb/version_0")).Reload()
    assert len(events.Scalars("val/mi_bound")) == 2
    assert {f"mi_bound/{name}" for name in DETAILS} <= set(events.Tags()["scalars"])


def test_every_n_epochs_with_strict_early_stopping():
    one, at = callback(every_n_epochs=2), []
    waveforms = one._waveforms
    one._waveforms = lambda batch: at.append(trainer.current_epoch) or waveforms(batch)
    stopping = EarlyStopping("val/mi_bound", mode="max", patience=10, strict=True)
    trainer = quiet_trainer(max_epochs=5, callbacks=[one, stopping], num_sanity_val_steps=0)
    trainer.fit(TinySpeechModel(), loader(utterances(32)), loader(utterances(32)))
    assert sorted(set(at)) == [0, 2, 4]
    assert trainer.current_epoch == 5


def test_two_callbacks_side_by_side():
    both = [callback(), callback(log_name="val/mi_bound_far", gap_seconds="far", seed=3)]
    trainer = quiet_trainer(callbacks=both)
    (logged,) = trainer.validate(TinySpeechModel(), loader(utterances(100)), verbose=False)
    assert logged["val/mi_bound"] != logged["val/mi_bound_far"]
    assert {"mi_bound/stderr", "mi_bound_far/stderr"} <= logged.keys()


def test_two_callbacks_with_the_same_names_are_an_error():
    both = [callback(), callback(log_name="test/mi_bound", seed=3)]
    with pytest.raises(ValueError, match=r"must end differently.*both would log mi_bound/stderr"):
        quiet_trainer(callbacks=both).validate(TinySpeechModel(), loader(utterances(100)), verbose=False)


def test_several_validation_loaders_are_pooled():
    class TwoLoaders(TinySpeechModel):
        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            pass

    x, module = utterances(200), TwoLoaders()
    one, _ = validate(module, loader(x))
    logged = quiet_trainer(callbacks=[callback()]).validate(
        module, [loader(x[:50]), loader(x[50:])], verbose=False
    )
    for values in logged:
        assert values["val/mi_bound"] == pytest.approx(one["val/mi_bound"], abs=1e-5)


# ---- batches and models, with MIBoundCallback() and no argument

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
    own = callback(batch_to_waveforms=lambda batch: Waveforms(batch[0], None, batch[1]))
    module = TinySpeechModel()
    module.validation_step = lambda batch, batch_idx: None
    quiet_trainer(callbacks=[own]).validate(module, DataLoader(items, batch_size=32), verbose=False)
    assert own.estimates["output", "near"].num_groups == 10


# ---- what goes wrong


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"num_clusters": 0}, ValueError, "`num_clusters` must be at least 1, got 0"),
        ({"num_clusters": "64"}, TypeError, "`num_clusters` must be an int, got '64'"),
        ({"max_pairs": 0}, ValueError, "`max_pairs`"),
        ({"pairs_per_utterance": 0}, ValueError, "`pairs_per_utterance`"),
        ({"segment_seconds": 0}, ValueError, "`segment_seconds` must be positive"),
        ({"segment_seconds": -0.5}, ValueError, "`segment_seconds` must be positive"),
        ({"segment_seconds": float("nan")}, ValueError, "`segment_seconds`"),
        ({"segment_seconds": "0.5"}, TypeError, "`segment_seconds` must be a number"),
        ({"gap_seconds": -1}, ValueError, "`gap_seconds` must not be negative"),
        ({"sample_rate": 0}, ValueError, "`sample_rate`"),
        ({"sample_rate": "16k"}, TypeError, "`sample_rate` must be a number of samples"),
        ({"pooling": "max"}, ValueError, "`pooling` must be one of .* got 'max'"),
        ({"channels": "mine"}, ValueError, "`channels` must be one of .* got 'mine'"),
        (
            {"channels": "independent", "time_dim": 1},
            ValueError,
            "`channels='independent'` changes waveforms, got feature sequences",
        ),
        ({"every_n_epochs": 0}, ValueError, "`every_n_epochs`"),
        ({"seed": None}, TypeError, "`seed`"),
        ({"log_name": ""}, ValueError, "`log_name`"),
        ({"batch_to_waveforms": "x"}, TypeError, "`batch_to_waveforms` must be callable"),
    ],
)
def test_bad_arguments_are_named(kwargs, error, message):
    with pytest.raises(error, match=message):
        MIBoundCallback(**kwargs)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"embed": "encoder"}, "`embed` must name.*nearest names are"),
        ({"layers": ["encoder.*"]}, "`layers` must name.*"),
    ],
)
def test_unknown_names_are_errors_before_the_first_batch(kwargs, message):
    class NoBatch(Utterances):
        def __getitem__(self, index):
            raise AssertionError("a batch was loaded")

    trainer = quiet_trainer(callbacks=[callback(**kwargs)])
    with pytest.raises(ValueError, match=message):
        trainer.fit(
            TinySpeechModel(), DataLoader(NoBatch(torch.zeros(4, 4))), DataLoader(NoBatch(torch.zeros(4, 4)))
        )


def test_unknown_names_are_errors_before_the_first_batch_of_a_module_that_is_made_late():
    class Late(TinySpeechModel):
        def configure_model(self):
            self.late = nn.Linear(16, 16)

        def encode(self, x):
            return self.late(self(x))

    trainer = quiet_trainer(callbacks=[callback(layers=["late"], embed="encode")])
    trainer.fit(Late(), loader(utterances(32)), loader(utterances(64)))
    assert trainer.callback_metrics["mi_bound/pairs"] == 64
    trainer = quiet_trainer(callbacks=[callback(layers=["never"])], num_sanity_val_steps=0)
    with pytest.raises(ValueError, match=r"`layers` must name.*'never'"):
        trainer.fit(Late(), loader(utterances(32)), loader(utterances(64)))


def test_prediction_needs_no_encoder():
    class Headless(pl.LightningModule):
        def predict_step(self, batch, batch_idx):
            return batch.sum()

    assert len(quiet_trainer(callbacks=[callback()]).predict(Headless(), loader(utterances(64)))) == 2


def two_waveforms(count=64):
    x = utterances(count)
    return DataLoader([(row, row.flip(0)) for row in x], batch_size=16)


class TwoWaveforms(TinySpeechModel):
    def training_step(self, batch, batch_idx):
        return self.loss(batch[0])

    def validation_step(self, batch, batch_idx):
        pass


def test_an_unknown_batch_is_an_error_in_the_sanity_check():
    trainer = quiet_trainer(callbacks=[callback()])
    with pytest.raises(ValueError, match=r"batch\[1\]: Tensor of shape \(16, 2000\)(.|\n)*batch_to_waveforms="):
        trainer.fit(TwoWaveforms(), two_waveforms(), two_waveforms())
    trainer = quiet_trainer(callbacks=[callback(batch_to_waveforms=lambda batch: batch[0])])
    trainer.fit(TwoWaveforms(), two_waveforms(), two_waveforms())
    assert trainer.callback_metrics["mi_bound/pairs"] == 64


def test_an_unknown_batch_is_one_warning_once_training_has_begun():
    trainer = quiet_trainer(callbacks=[callback()], num_sanity_val_steps=0, max_epochs=3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(TwoWaveforms(), two_waveforms(), two_waveforms())
    said = [str(w.message) for w in caught if "MIBoundCallback" in str(w.message)]
    assert len(said) == 1
    assert "batch_to_waveforms=" in said[0]
    assert trainer.current_epoch == 3
    assert "val/mi_bound" not in trainer.callback_metrics


def test_any_exception_is_raised_in_the_sanity_check():
    trainer = quiet_trainer(callbacks=[callback()])
    with pytest.raises(RuntimeError, match="out of something"):
        trainer.fit(Broken(raises), loader(utterances(32)), loader(utterances(64)))


class Changes(TinySpeechModel):
    """Goes by another name from the second epoch on."""

    def on_train_epoch_start(self):
        if self.current_epoch == 1:
            self.encoder = self.rnn
            del self.rnn

    def forward(self, x):
        return (self.rnn if hasattr(self, "rnn") else self.encoder)(self.spectrum(x))[0]


def test_a_module_that_changes_while_it_trains_is_one_warning():
    trainer = quiet_trainer(callbacks=[callback(layers=["rnn"])], max_epochs=4)
    with pytest.warns(UserWarning, match=r"logs no value: `layers` must name.*'rnn'") as caught:
        trainer.fit(Changes(), loader(utterances(32)), loader(utterances(64)))
    assert sum("logs no value" in str(w.message) for w in caught) == 1
    assert trainer.current_epoch == 4


class Broken(TinySpeechModel):
    """Its embeddings go through ``damage``."""

    def __init__(self, damage):
        super().__init__()
        self.damage = damage

    def forward(self, x):
        return self.damage(super().forward(x))

    def validation_step(self, batch, batch_idx):
        pass


def nan_in_some(z):
    z = z.clone()
    z[::10] = float("nan")  # an anchor in every fifth pair
    return z


def infinity_in_one(z):
    z = z.clone()
    z[1, 0, 3] = float("inf")
    return z


def outlier_of_1e8(z):
    z = z.clone()
    if len(z) == 2 * 8:  # the last batch, and no other
        z[4] = 1e8
    return z


STATES = {
    "zero": lambda z: torch.zeros_like(z),
    "constant": lambda z: torch.full_like(z, 3.0),
    "constant but for rounding": lambda z: 3.0 + 1e-7 * z,
    "rank one": lambda z: z.sum(dim=-1, keepdim=True).expand_as(z),
    "exploding": lambda z: z * 1e6,
    "vanishing": lambda z: z * 1e-6,
    "vanishing further": lambda z: z * 1e-30,
    "NaN in some": nan_in_some,
    "infinity in some": infinity_in_one,
    "an outlier of 1e8": outlier_of_1e8,
}


@pytest.mark.parametrize("state", STATES)
def test_models_in_every_state(state):
    logged, said = validate(Broken(STATES[state]))
    assert all(math.isfinite(value) for value in logged.values())
    lost = {"NaN in some": 44, "infinity in some": 7}.get(state, 0)  # in 6 batches of 32 and one of 8
    assert logged["mi_bound/pairs"] == 200 - lost
    assert logged["mi_bound/skipped"] == lost
    assert len(said) == bool(lost)
    if state in ("zero", "constant", "constant but for rounding"):
        assert logged["val/mi_bound"] == 0
        assert logged["mi_bound/active_clusters"] == 1
    else:
        healthy, _ = validate(Broken(lambda z: z))
        share = 0.1 if state == "rank one" else 0.75
        assert logged["val/mi_bound"] > share * healthy["val/mi_bound"] > 0.1


def raises(z):
    raise RuntimeError("out of something")


@pytest.mark.parametrize(
    ("module", "data", "said"),
    [
        (lambda: Broken(lambda z: z * float("nan")), None, "200 with NaN or infinity"),
        (lambda: Broken(raises), None, "RuntimeError: out of something"),
        (lambda: Broken(lambda z: z[:5]), None, "Cannot tell which part of the output"),
        (lambda: Broken(lambda z: z[:, :0]), None, "Cannot tell which part of the output"),
        (lambda: Broken(lambda z: z[..., : 3 + (len(z) == 64)]), None, "the same shape in all batches"),
        (None, lambda: utterances(100, seconds=0.9), "0 usable pairs of segments, 100 utterances left out"),
        (None, lambda: torch.zeros(100, 2000), "100 too short"),
        (None, lambda: utterances(1), "1 usable pairs"),
        (None, lambda: utterances(3).repeat(10, 1), "3 usable pairs"),
    ],
)
def test_nothing_usable_is_one_warning_and_no_value(module, data, said):
    callbacks = [callback()]
    trainer = quiet_trainer(callbacks=callbacks, max_epochs=2, num_sanity_val_steps=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(
            TinySpeechModel() if module is None else Quiet(module()),
            loader(utterances(32)),
            loader(utterances(200) if data is None else data()),
        )
    messages = [str(w.message) for w in caught if "MIBoundCallback" in str(w.message)]
    assert len(messages) == 1
    assert said in messages[0]
    assert not any("mi_bound" in name for name in trainer.callback_metrics)


class Recovers(TinySpeechModel):
    """Its embeddings are NaN in the first and the fourth epoch."""

    def forward(self, x):
        nan = self.trainer.validating or self.trainer.evaluating
        return super().forward(x) * (float("nan") if nan and self.current_epoch in (0, 3) else 1.0)

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max")
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val/mi_bound"}}


def test_monitors_survive_an_epoch_without_a_value(tmp_path):
    logger = CSVLogger(tmp_path)
    saves = ModelCheckpoint(
        tmp_path / "saved", filename="{epoch}", monitor="val/mi_bound", mode="max", save_top_k=4
    )
    stopping = EarlyStopping("val/mi_bound", mode="max", patience=5, strict=True)
    trainer = quiet_trainer(
        callbacks=[callback(), saves, stopping], max_epochs=6, enable_checkpointing=True, logger=logger
    )
    with pytest.warns(UserWarning, match=r"logs no value: 0 usable pairs.*200 with NaN") as caught:
        trainer.fit(Recovers(), loader(utterances(64, seed=1)), loader(utterances(200)))
    assert sum("logs no value" in str(w.message) for w in caught) == 1
    assert trainer.current_epoch == 6
    scores = {path.split("epoch=")[1]: score.item() for path, score in saves.best_k_models.items()}
    assert scores.keys() == {f"{epoch}.ckpt" for epoch in (1, 2, 4, 5)}  # never the broken ones
    assert min(scores.values()) > 0.1
    logger.finalize("success")
    rows = list(csv.DictReader((tmp_path / "lightning_logs/version_0/metrics.csv").open()))
    assert [int(row["epoch"]) for row in rows if row.get("val/mi_bound")] == [1, 2, 4, 5]  # nothing was logged


@pytest.mark.parametrize(
    ("data", "arguments"),
    [
        (utterances(1, seconds=9.0), {"pairs_per_utterance": 5}),
        (
            utterances(5),
            {"batch_to_waveforms": lambda x: (x, torch.full((len(x),), 2000), torch.full((len(x),), 7))},
        ),
    ],
)
def test_one_group_is_a_warning(data, arguments):
    logged, said = validate(batches=loader(data), **arguments)
    assert not any("mi_bound" in name for name in logged)
    (message,) = said
    assert "all 5 usable pairs of segments are of one group" in message


@pytest.mark.parametrize(("count", "clusters"), [(4, 1), (10, 1), (16, 2), (40, 4)])
def test_few_pairs_lower_the_number_of_clusters(count, clusters):
    logged, said = validate(batches=loader(utterances(count)))
    assert logged["mi_bound/ceiling"] == pytest.approx(math.log(clusters))
    assert 0 <= logged["val/mi_bound"] <= math.log(clusters)
    assert len(said) == 1
    assert f"lowers `num_clusters` from 8 to {clusters}: {count} pairs" in said[0]


@pytest.mark.parametrize(("count", "clusters"), [(4, 1), (16, 2), (127, 4), (255, 4), (256, 8)])
def test_the_number_of_clusters_suits_the_pairs(count, clusters):
    logged, said = validate(batches=loader(utterances(count)), num_clusters=None)
    assert logged["mi_bound/pairs"] == count
    assert logged["mi_bound/ceiling"] == pytest.approx(math.log(clusters))
    assert not said  # nobody has asked for more


class Quiet(TinySpeechModel):
    """Trains a plain model, and is embedded by a broken one."""

    def __init__(self, broken):
        super().__init__()
        self.broken = broken

    def forward(self, x):
        return self.broken(x) if self.trainer.validating or self.trainer.evaluating else super().forward(x)

    def validation_step(self, batch, batch_idx):
        pass


@pytest.mark.parametrize("channels", ["shared", "independent"])
def test_skipped_utterances_are_said_once(channels):
    x = utterances(200)
    x[:20] = 0
    x[20:50, 900:] = 0
    trainer = quiet_trainer(callbacks=[callback(channels=channels)], max_epochs=3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(TinySpeechModel(), loader(utterances(32)), loader(x))
    said = [str(w.message) for w in caught if "MIBoundCallback" in str(w.message)]
    assert len(said) == 1
    assert "leaves out 50 utterances: 50 too short, 0 silent" in said[0]
    assert trainer.callback_metrics["mi_bound/skipped"] == 50
    assert trainer.callback_metrics["mi_bound/pairs"] == 150


def test_no_validation_loop_is_said():
    with pytest.warns(UserWarning, match="has no validation loop"):
        quiet_trainer(callbacks=[callback()], limit_val_batches=0).fit(TinySpeechModel(), loader(utterances(32)))


# ---- the guest


@pytest.mark.parametrize("inference_mode", [True, False])
def test_training_is_the_same_with_and_without(inference_mode):
    def run(callbacks):
        pl.seed_everything(3, verbose=False)
        model = TinySpeechModel()
        model.dropout = nn.Dropout(0.5)
        trainer = quiet_trainer(max_epochs=3, callbacks=callbacks, inference_mode=inference_mode)
        trainer.fit(model, loader(utterances(100), shuffle=True), loader(utterances(100)))
        return model.state_dict(), trainer.callback_metrics["train/loss"], torch.get_rng_state()

    with_it, without = run([callback()]), run([])
    assert all(torch.equal(with_it[0][name], without[0][name]) for name in without[0])
    assert torch.equal(with_it[1], without[1])
    assert torch.equal(with_it[2], without[2])


def test_memory_is_given_back_after_the_epoch():
    one = callback()
    quiet_trainer(callbacks=[one]).validate(TinySpeechModel(), loader(utterances(100)), verbose=False)
    assert one._epoch is None
