"""One epoch without a Trainer's loop: what it gathers, estimates and refuses."""

from typing import ClassVar

import pytest
import torch

from lightning_mi import mi_bound
from lightning_mi.arguments import Arguments
from lightning_mi.controls.null_control import NullFinding
from lightning_mi.embedding.discovery import find_encoder
from lightning_mi.embedding.strategy import StrategyForward
from lightning_mi.failures import NoEstimateError
from lightning_mi.inputs.segments import SegmentSampler
from lightning_mi.validation.epoch import ValidationEpoch
from tests.helpers.models import TinySpeechModel, quiet_trainer
from tests.helpers.run_callback import ONE_PAIR
from tests.helpers.speech import SAMPLE_RATE, utterances


class Lockstep(StrategyForward):
    """A strategy whose processes must make the same number of calls, without processes."""

    in_lockstep = True

    def __call__(self, call, waveforms):
        return call(waveforms)


class Shapes(TinySpeechModel):
    """Records the shape of what it is called with."""

    shapes: ClassVar = []  # on the class, which isolation does not restore

    def forward(self, x):
        self.shapes.append(tuple(x.shape))
        return super().forward(x)


class OfFrames(Shapes):
    def spectrum(self, x):
        return x


def epoch_of(module, forward=StrategyForward, measure_input=False, measure_null=False, held=None, **arguments):
    arguments = Arguments(**({"num_clusters": 4, "sample_rate": SAMPLE_RATE} | ONE_PAIR | arguments))
    sampler = SegmentSampler(
        arguments.segment_seconds,
        arguments.gaps,
        arguments.sample_rate,
        arguments.seed,
        arguments.pairs_per_utterance,
        arguments.layout,
        arguments.channels,
    )
    encoder = find_encoder(module, arguments.embed, arguments.layers, arguments.time_dim is not None)
    shape = torch.Size([sampler.segment_length]) if arguments.time_dim is None else None
    made = forward(quiet_trainer(), module, arguments.seed, shape)
    Shapes.shapes.clear()
    return ValidationEpoch(arguments, sampler, encoder, made, held, measure_input, measure_null)


def test_findings_are_those_of_the_function_on_the_kept_pairs():
    torch.manual_seed(0)
    module, x = TinySpeechModel(), utterances(120)
    epoch = epoch_of(module, gap_seconds=["near", "far"], measure_input=True, measure_null=True, pooling="mean")
    for batch in x.split(50):
        epoch.add(batch)
    findings = epoch.finish()
    segments = SegmentSampler(
        0.5, Arguments(gap_seconds=["near", "far"]).gaps, SAMPLE_RATE, seed=0, channels="independent"
    )(_waveforms(x))
    with torch.no_grad():
        z = module(segments.samples.flatten(0, 1)).mean(dim=1).unflatten(0, (120, 3))
    order = segments.keys.argsort()
    for partner, gap in ((1, "near"), (2, "far")):
        expected = mi_bound(
            z[order, 0], z[order, partner], 4, groups=segments.groups[order], quantizer="canonical"
        )
        assert findings.estimates["output", gap].bound == pytest.approx(expected.bound, abs=1e-2)
    assert list(findings.estimates) == [("output", "near"), ("output", "far")]
    assert (findings.num_pairs, findings.num_clusters, findings.skipped) == (120, 4, 0)
    assert findings.input_baseline.estimate.num_pairs == 120
    assert isinstance(findings.null, NullFinding)
    assert findings.null.utterances == 120
    assert set(findings.controls) == {"input", "null"}


def _waveforms(x):
    from lightning_mi.inputs.batches import Waveforms

    return Waveforms(x, torch.full((len(x),), x.shape[1]))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (utterances(3), "3 usable pairs of segments, 0 utterances left out"),
        (utterances(50, seconds=0.9), "50 too short"),
        (torch.zeros(50, 2000), "0 usable pairs"),
    ],
)
def test_too_few_pairs_are_no_estimate(x, message):
    epoch = epoch_of(TinySpeechModel())
    epoch.add(x)
    with pytest.raises(NoEstimateError, match=message):
        epoch.finish()


@pytest.mark.parametrize(("held", "expected"), [(None, 4), (8, 8), (62, 62), (128, 16)])
def test_held_number_of_clusters_is_lowered_only_if_pairs_are_too_few(held, expected):
    epoch = epoch_of(TinySpeechModel(), num_clusters=None, held=held)
    epoch.add(utterances(250))
    assert epoch.finish().num_clusters == expected


def test_nothing_is_added_after_the_first_failure():
    def fails(batch):
        raise ValueError("odd file")

    module = Shapes()
    epoch = epoch_of(module, batch_to_waveforms=lambda batch: batch if len(batch) > 1 else fails(batch))
    for batch in (utterances(40), utterances(1), utterances(40, seed=1)):
        epoch.add(batch)
    assert [shape[0] for shape in Shapes.shapes] == [4, 6, 80]  # the trial call, then the first batch
    with pytest.raises(NoEstimateError, match="odd file"):
        epoch.finish()


def test_in_lockstep_every_batch_is_one_call():
    """With a placeholder in the place of nothing; what the model raises is raised."""

    def read(batch):
        if batch is None:
            raise ValueError("odd file")
        return batch

    epoch = epoch_of(Shapes(), Lockstep, batch_to_waveforms=read)
    for batch in (utterances(40), utterances(4, seconds=0.5), None, utterances(40, seed=1)):
        epoch.add(batch)
    assert [shape[0] for shape in Shapes.shapes] == [80, 1, 1, 1]
    assert {shape[1:] for shape in Shapes.shapes} == {(500,)}
    assert "odd file" in str(epoch.failures.error)

    class Broken(TinySpeechModel):
        def forward(self, x):
            raise RuntimeError("out of something")

    with pytest.raises(RuntimeError, match="out of something"):
        epoch_of(Broken(), Lockstep).add(utterances(4))


def test_in_lockstep_a_placeholder_of_unknown_features_is_never_made():
    """The reason is raised, not an error of a wrong shape."""
    sequences = torch.randn(6, 62, 26)

    def read(batch):
        if batch is None:
            raise ValueError("odd file")
        return batch

    arguments = {"time_dim": 1, "sample_rate": 31.25, "batch_to_waveforms": read}
    epoch = epoch_of(OfFrames(), Lockstep, **arguments)
    epoch.add(sequences[:, :20])  # too short
    epoch.add(None)
    assert Shapes.shapes == [(1, 16, 26)] * 2
    with pytest.raises(ValueError, match="odd file"):
        epoch_of(OfFrames(), Lockstep, **arguments).add(None)


def test_seconds_are_those_of_the_timed_body():
    epoch = epoch_of(TinySpeechModel())
    with pytest.raises(RuntimeError), epoch.timed():
        raise RuntimeError
    assert 0 < epoch.seconds < 1
