"""Labelled bounds in Lightning runs: against the closed form, by hand, with layers and on two processes."""

import math
from collections import namedtuple

import pytest
import torch
from torch.utils.data import DataLoader

from lightning_mi import LabeledMIBound, MIBoundCallback, labeled_mi_bound
from lightning_mi.embedding.pooling import pool, select_frames
from lightning_mi.inputs.batches import Waveforms
from lightning_mi.inputs.segments import SegmentSampler, parse_gaps
from tests.helpers.distributed import in_processes
from tests.helpers.models import TinySpeechModel, quiet_trainer
from tests.helpers.run_callback import run_callback
from tests.helpers.speech import SAMPLE_RATE, utterances

Batch = namedtuple("Batch", ["wav", "speaker"])


def mixture(num=1200, classes=6, spread=0.05):
    labels = torch.randint(classes, (num,))
    return torch.randn(classes, 8)[labels] + spread * torch.randn(num, 8), labels


def test_metric_is_the_function_and_close_to_the_closed_form():
    z, labels = mixture()
    metric = LabeledMIBound()
    for rows in torch.arange(1200).split(100):
        metric.update(z[rows], labels[rows])
    assert metric.estimate() == labeled_mi_bound(z, labels)
    # Classes that do not overlap: I(Z; Y) = H(Y) = log 6.
    assert metric.compute().item() == pytest.approx(math.log(6), abs=0.03)


def of_channel(classes, error):
    """I(Z; Y) where Y is the class of Z but for a share ``error`` that is any other: log K - h(e) - e log(K - 1)."""
    binary = sum(-p * math.log(p) for p in (error, 1 - error) if p > 0)
    return math.log(classes) - binary - error * math.log(classes - 1)


def noisy(latent, classes, error):
    others = (latent + torch.randint(1, classes, latent.shape)) % classes
    return torch.where(torch.rand(latent.shape) < error, others, latent)


@pytest.mark.parametrize("error", [0.0, 0.1, 0.4, 5 / 6])
def test_discrete_latent_mixture_has_its_closed_form(error):
    z, latent = mixture(num=4000)
    labels = noisy(latent, 6, error)
    estimate = labeled_mi_bound(z, labels)
    truth = of_channel(6, error)
    assert truth - 3 * estimate.stderr - 0.01 < estimate.bound < truth + 3 * estimate.stderr + 0.001
    assert estimate.entropy == pytest.approx(math.log(6), abs=0.01)


def test_the_callback_has_the_closed_form_too():
    """Two segments of a sequence share a class, its label is wrong at times: log K and the channel's information."""
    latent = torch.arange(800) % 6
    frames = torch.randn(6, 8)[latent][:, None] + 0.1 * torch.randn(800, 20, 8)
    data = DataLoader(list(zip(frames, noisy(latent, 6, 0.2), strict=True)), batch_size=100)
    logged, said = validate(
        batches=data, num_clusters=6, labels={"class": 1}, time_dim=1, sample_rate=10, embed=lambda x: x
    )
    assert not said
    assert logged["val/mi_bound"] == pytest.approx(math.log(6), abs=0.03)
    assert logged["mi_bound/input"] == pytest.approx(math.log(6), abs=0.03)
    bound, stderr = (logged[f"mi_bound/labels/class/{name}"] for name in ("bound", "stderr"))
    assert of_channel(6, 0.2) - 3 * stderr - 0.02 < bound < of_channel(6, 0.2) + 3 * stderr


def test_unlabelled_rows_are_left_out():
    z, labels = mixture()
    groups = torch.arange(1200) // 2
    some = torch.rand(1200) < 0.5
    estimate = labeled_mi_bound(z, torch.where(some, labels, -1), groups)
    assert estimate == labeled_mi_bound(z[some], labels[some], groups[some])
    assert estimate.num_pairs == int(some.sum())
    with pytest.raises(ValueError, match="at least 2 rows"):
        labeled_mi_bound(z, torch.full((1200,), -1))


# ---- the callback


class Labelled(TinySpeechModel):
    """Its batches are (waveforms, speakers, phones)."""

    def training_step(self, batch, batch_idx):
        return self.loss(batch[0])

    def validation_step(self, batch, batch_idx):
        pass

    test_step = validation_step


X = utterances(240)
PITCH = X.diff(dim=1).abs().mean(dim=1).argsort().argsort() * 4 // 240  # quarters
ROUGH = X.unfold(1, 100, 100).diff(dim=2).abs().mean(dim=2)  # 10 a second
PHONES = (ROUGH.mean() < ROUGH).long() + (2 * ROUGH.mean() < ROUGH)
LABELS = {"pitch": 1, "phone": {"source": 2, "rate": 10}}


def labelled(x=X, speakers=PITCH, phones=PHONES, **kwargs):
    return DataLoader(list(zip(x, speakers, phones, strict=True)), batch_size=16, **kwargs)


def validate(module=None, batches=None, run="validate", **arguments):
    module, batches = Labelled() if module is None else module, labelled() if batches is None else batches
    made = run_callback(module, batches, run, **({"labels": LABELS} | arguments))
    return made.logged, made.warnings


@pytest.mark.parametrize(("run", "pooling"), [("validate", "mean"), ("test", "mean"), ("validate", "boundary")])
def test_logs_what_the_estimator_says(run, pooling):
    """Written out: segments, embeddings (of labels of utterances always the mean), the frames' own labels, and the
    pure function."""
    module = Labelled()
    logged, said = validate(module, run=run, pooling=pooling)
    assert not said
    segments = SegmentSampler(0.5, parse_gaps("near"), SAMPLE_RATE, seed=0)(Waveforms(X, torch.full((240,), 2000)))
    assert torch.equal(segments.rows, torch.arange(240))
    with torch.no_grad():
        frames = module(segments.samples.flatten(0, 1)).unflatten(0, (240, 2))
    reference = labeled_mi_bound(pool(frames, "mean")[:, 0], PITCH, segments.groups)
    assert logged["mi_bound/labels/pitch/bound"] == pytest.approx(reference.bound, abs=0.05)
    assert logged["mi_bound/labels/pitch/entropy"] == pytest.approx(math.log(4), abs=0.05)
    assert logged["mi_bound/labels/pitch/stderr"] == pytest.approx(reference.stderr, rel=0.3)
    assert reference.bound > 0.1
    assert logged["mi_bound/labels/phone/bound"] > 0.1
    assert logged["val/mi_bound"] > 0.1


def test_a_frame_gets_the_label_of_its_time():
    """Embeddings that are the time of their frame, and labels that are too: nothing is left to guess."""

    class Clock(Labelled):
        def forward(self, x):
            return x.unfold(1, 50, 50).mean(dim=2, keepdim=True)

    time = torch.arange(2000) / SAMPLE_RATE
    x = time.expand(240, -1) + 1e-4 * torch.randn(240, 2000)
    phones = torch.arange(20).expand(240, -1)
    logged, _ = validate(Clock(), labelled(x, phones=phones), labels={"phone": {"source": 2, "rate": 10}})
    shifted, _ = validate(Clock(), labelled(x, phones=phones), labels={"phone": {"source": 2, "rate": 5}})
    right = logged["mi_bound/labels/phone/entropy"] - logged["mi_bound/labels/phone/bound"]
    assert logged["mi_bound/labels/phone/bound"] > 1.5
    assert shifted["mi_bound/labels/phone/entropy"] < logged["mi_bound/labels/phone/entropy"]  # half as many
    z, middle = select_frames(torch.arange(20.0).reshape(1, 1, 20, 1), torch.tensor([[0.72]]))
    assert z.item() == 14
    assert middle.item() == pytest.approx(14.5 / 20)
    assert right < 1.2


def test_each_layer_has_a_labelled_bound_and_the_primary_is_repeated():
    logged, _ = validate(layers=["rnn", "head"], embed=lambda module, x: module.predict(x))
    for name in ("pitch", "phone"):
        assert logged[f"mi_bound/labels/{name}/bound"] == logged[f"mi_bound/labels/{name}/layers/head/bound"]
        assert logged[f"mi_bound/labels/{name}/layers/rnn/stderr"] > 0


def test_unlabelled_and_few_pairs():
    logged, said = validate(batches=labelled(speakers=torch.full((240,), -1)), max_pairs=60)
    assert "mi_bound/labels/pitch/bound" not in logged
    assert logged["mi_bound/labels/phone/bound"] >= 0
    assert logged["val/mi_bound"] > 0
    assert sum("logs no pitch of output" in message for message in said) == 1


def test_labels_that_are_not_there_are_an_error_in_the_sanity_check():
    one = MIBoundCallback(num_clusters=8, sample_rate=SAMPLE_RATE, labels="speaker")
    with pytest.raises(ValueError, match="`labels` must name a part of the validation batch, got 'speaker'"):
        quiet_trainer(callbacks=[one]).fit(Labelled(), labelled(), labelled())


def on_processes(count):
    arguments = {"layers": ["rnn", "head"], "embed": "predict", "max_pairs": 100, "labels": LABELS}
    one = MIBoundCallback(num_clusters=8, sample_rate=SAMPLE_RATE, **arguments)
    several = {"devices": count, "strategy": "ddp"} if count > 1 else {}
    torch.manual_seed(0)
    trainer = quiet_trainer(callbacks=[one], **several)
    trainer.validate(Labelled(), labelled(), verbose=False)
    return {name: value.item() for name, value in trainer.callback_metrics.items()}


def test_two_processes_say_what_one_says(tmp_path):
    alone = on_processes(1)
    for found in in_processes(2, tmp_path, on_processes, 2):
        assert found.keys() == alone.keys()
        for name in alone.keys() - {"mi_bound/seconds"}:
            assert found[name] == pytest.approx(alone[name], abs=1e-5), name
