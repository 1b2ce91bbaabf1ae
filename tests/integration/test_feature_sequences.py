"""The callback on feature sequences: `time_dim=` and a rate of frames in place of a sample rate."""

from functools import partial

import pytest
import torch
from torch.utils.data import DataLoader

from lightning_mi import MIBoundCallback, mi_bound
from lightning_mi.controls.input_baseline import frame_statistics
from lightning_mi.embedding.pooling import pool
from lightning_mi.inputs.batches import Waveforms
from lightning_mi.inputs.layout import Layout
from lightning_mi.inputs.pairs_per_utterance import MOST_PAIRS_PER_UTTERANCE
from lightning_mi.inputs.segments import SegmentSampler, parse_gaps
from lightning_mi.ranking.rank import rank_models
from tests.helpers.models import TinySpeechModel, loader, quiet_trainer
from tests.helpers.run_callback import PAPER, run_callback
from tests.helpers.speech import SAMPLE_RATE, utterances

FRAME = 32
RATE = SAMPLE_RATE / FRAME  # 31.25 frames a second
X = utterances(200).unfold(1, FRAME, FRAME)  # (200, 62, 32)
LENGTHS = 40 + torch.arange(200) % 22
X = X * (torch.arange(62) < LENGTHS[:, None])[..., None]
SHAPES = []  # of what the model was called with
SETTINGS = {"num_clusters": 8, "sample_rate": RATE, "time_dim": 1}


class OfFrames(TinySpeechModel):
    """Takes sequences ``(B, T, 32)``, or ``(B, 32, T)``."""

    def __init__(self, time_dim=1):
        torch.manual_seed(0)
        super().__init__(frame=FRAME)
        self.time_dim = time_dim

    def forward(self, x):
        SHAPES.append(tuple(x.shape[1:]))  # not in the model, where the callback would put it back
        return super().forward(x if self.time_dim == 1 else x.mT.contiguous())

    def validation_step(self, batch, batch_idx):
        pass

    test_step = validation_step


def validate(module=None, batches=None, run="validate", **arguments):
    one = MIBoundCallback(**(SETTINGS | arguments))
    made = run_callback(
        OfFrames() if module is None else module, loader(X) if batches is None else batches, run, one
    )
    return made.logged, made.warnings


def numbers(logged):
    return {name: value for name, value in logged.items() if name != "mi_bound/seconds"}


def test_logs_what_the_estimator_says():
    """Written out: segments, embeddings, their statistics, and the pure function."""
    module = OfFrames()
    SHAPES.clear()
    logged, said = validate(module)
    assert not said
    assert set(SHAPES) == {(16, 32), (32, 32)}  # half a second; of the trial call, twice that, too
    sampler = SegmentSampler(0.5, parse_gaps("near"), RATE, 0, MOST_PAIRS_PER_UTTERANCE, layout=Layout(1))
    segments = sampler(Waveforms(X, LENGTHS))
    with torch.no_grad():
        z = pool(module(segments.samples.flatten(0, 1)).unflatten(0, (-1, 2)), "mean")
    features = frame_statistics(segments.samples.flatten(0, 1)).unflatten(0, (-1, 2))
    order = segments.keys.argsort()
    for name, vectors in (("val/mi_bound", z), ("mi_bound/input", features)):
        z_a, z_b = vectors[order].unbind(1)
        reference = mi_bound(z_a, z_b, num_clusters=8, groups=segments.groups[order])
        assert logged[name] == pytest.approx(reference.bound, abs=1e-5)
    assert logged["mi_bound/pairs"] == len(segments.keys) > 200


@pytest.mark.parametrize("run", ["validate", "test"])
def test_any_order_batch_and_layout(run):
    expected, _ = validate()
    order = torch.randperm(200)
    SHAPES.clear()
    ragged = [X[i, : LENGTHS[i]].mT for i in order]
    batches = DataLoader(ragged, batch_size=7, collate_fn=list)
    found, said = validate(OfFrames(time_dim=2), batches, run, time_dim=-1)
    assert not said
    assert set(SHAPES) == {(32, 16), (32, 32)}
    for name, value in numbers(expected).items():
        assert found[name] == pytest.approx(value, abs=1e-5), name


def test_one_feature_is_a_waveform():
    """Samples are frames of one number: the same segments, hence the same numbers."""
    x = utterances(100)
    module = TinySpeechModel()
    expected, _ = validate(module, loader(x), sample_rate=SAMPLE_RATE, time_dim=None, **PAPER)
    for time_dim, dim in ((1, 2), (2, 1)):
        found, _ = validate(module, loader(x.unsqueeze(dim)), sample_rate=SAMPLE_RATE, time_dim=time_dim)
        differing = {name for name in found if found[name] != expected[name]} - {"mi_bound/seconds"}
        assert differing == {"mi_bound/input"}  # statistics of samples are not those of log-mel bands


def test_layers_gaps_labels_and_groups():
    quarter = X.diff(dim=2).abs().mean(dim=(1, 2)).argsort().argsort() * 4 // 200
    rough = (X.diff(dim=2).abs().mean(dim=2) > 0.4).long()  # a label for each frame
    batches = DataLoader([{"mel": x, "who": q, "rough": r} for x, q, r in zip(X, quarter, rough, strict=True)], 32)
    logged, said = validate(
        batches=batches,
        layers=["rnn"],
        gap_seconds=["near", 0.2],
        pooling="boundary",
        pairs_per_utterance=2,
        segment_seconds=0.25,
        labels={"who": "who", "rough": {"source": "rough", "rate": RATE}},
        batch_to_waveforms=lambda batch: (batch["mel"], None, batch["who"] * 50 + torch.arange(len(batch["who"]))),
    )
    assert not said
    assert logged["mi_bound/layers/rnn/bound"] == logged["val/mi_bound"]
    assert logged["mi_bound/pairs"] > 300
    assert {"mi_bound/gap_0.2/bound", "mi_bound/labels/who/bound"} <= logged.keys()
    assert logged["mi_bound/labels/rough/bound"] > 0.1


def test_what_is_wrong_is_said():
    with pytest.raises(ValueError, match=r"\(B, T\) or \(B, 1, T\)(.|\n)*Feature sequences need `time_dim=`"):
        quiet_trainer(callbacks=[MIBoundCallback()]).fit(OfFrames(), loader(X), loader(X))
    _, (said,) = validate(sample_rate=16_000)
    assert "0 usable pairs" in said
    assert "`sample_rate=16000` frames a second (16000 frames)" in said
    with pytest.raises(ValueError, match="at least one sample at `sample_rate=1`"):
        MIBoundCallback(time_dim=1, sample_rate=1)
    for rate in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="`sample_rate` must be a positive number"):
            MIBoundCallback(sample_rate=rate)
    with pytest.raises(TypeError, match="`sample_rate` must be a number"):
        MIBoundCallback(sample_rate="16000")
    with pytest.raises(ValueError, match="`time_dim` must be 1"):
        MIBoundCallback(time_dim=3)
    one = MIBoundCallback(**SETTINGS)
    before = MIBoundCallback(**SETTINGS | {"time_dim": None, "sample_rate": SAMPLE_RATE}).state_dict()
    with pytest.warns(UserWarning, match="`sample_rate` was 1000 and is 31.25.*`time_dim` was None and is 1"):
        one.load_state_dict(before)


def test_there_is_an_input_baseline_unless_it_is_not_wanted():
    assert "mi_bound/input" in validate()[0]
    assert "mi_bound/input" not in validate(input_baseline=False)[0]


def test_models_of_sequences_are_ranked():
    models = {"gru": OfFrames(), "noise": lambda x: torch.randn(len(x), 4), "features": lambda x: x}
    ranking = rank_models(models, loader(X), partial(MIBoundCallback, **SETTINGS), quiet_trainer)
    bounds = {each.name: each.bound for each in ranking.models}
    assert bounds["gru"] == pytest.approx(validate()[0]["val/mi_bound"], abs=1e-5)
    assert next(iter(bounds)) == "gru"
