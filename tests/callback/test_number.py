"""The logged number is that of the pure function on the same embeddings, for every argument that changes it."""

import math

import pytest
import torch

from lightning_mi import MIBoundCallback, mi_bound
from lightning_mi.inputs.batches import Waveforms
from lightning_mi.inputs.pairs_per_utterance import MOST_PAIRS_PER_UTTERANCE
from lightning_mi.inputs.segments import SegmentSampler, parse_gaps
from tests.helpers.models import TinySpeechModel, loader
from tests.helpers.run_callback import PAPER, mi_callback, validate
from tests.helpers.speech import SAMPLE_RATE, chords, syllables, utterances


@pytest.mark.parametrize("setting", ["the defaults", "the paper's"])
def test_logs_what_the_estimator_says_about_the_segments(setting):
    """The whole path, written out: segments, embeddings one utterance at a time, and the pure function."""
    paper = setting == "the paper's"
    module, x = TinySpeechModel(), utterances(200) if paper else chords(200, seconds=2.0)
    one = MIBoundCallback(num_clusters=8, sample_rate=SAMPLE_RATE, **(PAPER if paper else {}))
    logged, warned = validate(module, loader(x), callback=one)
    sampler = SegmentSampler(
        0.5,
        parse_gaps("near"),
        SAMPLE_RATE,
        0,
        MOST_PAIRS_PER_UTTERANCE,
        channels="shared" if paper else "independent",
    )
    segments = sampler(Waveforms(x, torch.full((200,), x.shape[1])))
    order = segments.keys.argsort()
    with torch.no_grad():
        frames = torch.stack([module(pair) for pair in segments.samples])
    z = frames.mean(dim=2) if paper else torch.stack([frames[:, 0, -1], frames[:, 1, 0]], dim=1)
    quantizer = "kmeans" if paper else "canonical"
    reference = mi_bound(z[order, 0], z[order, 1], 8, groups=segments.groups[order], quantizer=quantizer)
    # Encoding one by one rounds differently, which may move a point across a border of clusters.
    assert logged["val/mi_bound"] == pytest.approx(reference.bound, abs=2e-2)
    assert logged["mi_bound/stderr"] == pytest.approx(reference.stderr, abs=2e-3)
    assert logged["mi_bound/entropy"] == pytest.approx(reference.entropy, abs=2e-2)
    assert logged["mi_bound/cross_entropy"] == pytest.approx(reference.cross_entropy, abs=2e-2)
    assert logged["mi_bound/ceiling"] == pytest.approx(torch.tensor(8.0).log().item())
    assert logged["mi_bound/active_clusters"] == 8
    assert logged["mi_bound/pairs"] == len(segments.keys) == 600
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


def test_content_is_what_views_of_one_moment_share_and_distant_ones_do_not():
    """The whole path of the preset, written out: views at speeds of their own, centre frames, paired differences."""
    module, x = TinySpeechModel(), syllables(200)
    one = MIBoundCallback("content", num_clusters=8, sample_rate=SAMPLE_RATE, layers=["rnn", "head"], embed=_head)
    logged, warned = validate(module, loader(x), callback=one)
    views = SegmentSampler(
        0.5,
        parse_gaps(["same", "far"]),
        SAMPLE_RATE,
        0,
        MOST_PAIRS_PER_UTTERANCE,
        channels="independent",
        speed=1.3,
    )(Waveforms(x, torch.full((200,), x.shape[1])))
    assert views.samples.shape == (600, 3, SAMPLE_RATE // 2)
    order = views.keys.argsort()
    for layer in ("rnn", "head"):
        with torch.no_grad():
            frames = torch.stack([module(three) for three in views.samples[order]])
            if layer == "head":
                frames = module.head(frames)
        z = frames[:, :, frames.shape[2] // 2]
        same, far = (
            mi_bound(z[:, 0], z[:, partner], 8, groups=views.groups[order], quantizer="canonical")
            for partner in (1, 2)
        )
        content, stderr = same.scores.floored().gain_over(far.scores.floored())
        assert logged[f"mi_bound/layers/{layer}/bound"] == pytest.approx(same.bound, abs=4e-2)
        assert logged[f"mi_bound/layers/{layer}/content"] == pytest.approx(content, abs=6e-2)
        assert logged[f"mi_bound/layers/{layer}/content_stderr"] == pytest.approx(stderr, abs=2e-2)
    assert logged["mi_bound/content"] == logged["mi_bound/layers/head/content"]
    assert logged["val/mi_bound"] == logged["mi_bound/gap_same/bound"] > 0.3
    assert not warned


def test_best_layer_of_views_is_that_of_the_highest_content():
    module, x = TinySpeechModel(), syllables(200)
    logged, _ = validate(
        module,
        loader(x),
        callback=MIBoundCallback(
            "content",
            num_clusters=8,
            sample_rate=SAMPLE_RATE,
            layers=["rnn", "head"],
            embed=_head,
            primary_layer="best",
        ),
    )
    contents = {layer: logged[f"mi_bound/layers/{layer}/content"] for layer in ("rnn", "head")}
    best = max(contents, key=contents.get)
    assert logged["mi_bound/content"] == contents[best]
    assert logged["val/mi_bound"] == logged[f"mi_bound/layers/{best}/bound"]


def _head(module, x):
    return module.head(module(x))


def test_several_pairs_an_utterance():
    logged, _ = validate(data=loader(utterances(60, seconds=4.0)), pairs_per_utterance=5)
    assert logged["mi_bound/pairs"] == 300
    few, _ = validate(data=loader(utterances(60, seconds=4.0)), pairs_per_utterance=5, max_pairs=100)
    assert few["mi_bound/pairs"] == 100


def test_each_layer_has_a_bound_and_the_last_is_the_primary():
    logged, _ = validate(layers=["rnn", "head"], embed=lambda module, x: module.head(module(x)))
    assert logged["val/mi_bound"] == logged["mi_bound/layers/head/bound"]
    assert logged["mi_bound/layers/rnn/bound"] != logged["mi_bound/layers/head/bound"]
    assert logged["mi_bound/layers/rnn/stderr"] > 0


@pytest.mark.parametrize("primary", ["rnn", "best"])
def test_primary_layer_is_the_named_one_or_the_best(primary):
    module = TinySpeechModel()
    arguments = {"layers": ["rnn", "head"], "embed": "predict", "gap_seconds": ["near", "far"]}
    plain, _ = validate(module, **arguments)
    chosen, _ = validate(module, primary_layer=primary, **arguments)
    layers = {name: plain[f"mi_bound/layers/{name}/bound"] for name in ("rnn", "head")}
    assert plain["val/mi_bound"] == layers["head"]
    assert chosen["val/mi_bound"] == (layers["rnn"] if primary == "rnn" else max(layers.values()))
    assert chosen["mi_bound/gap_near/bound"] == chosen["val/mi_bound"]
    assert chosen["mi_bound/layers/head/bound"] == layers["head"]


def test_bad_primary_layer_is_named():
    with pytest.raises(
        ValueError, match=r"`primary_layer` must be one of the layers.*'nose'.*The layers are rnn, head"
    ):
        validate(layers=["rnn", "head"], primary_layer="nose")
    with pytest.raises(TypeError, match="`primary_layer` must be the name"):
        mi_callback(primary_layer=3)


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


def test_independent_channels_take_away_what_the_channel_encodes():
    generator = torch.Generator().manual_seed(0)
    loud = 10 ** (torch.rand(600, 1, generator=generator) * 1.5 - 1)  # 30 dB
    batches = loader(loud * torch.randn(600, 2000, generator=generator))
    shared, own = (validate(Loudness(), batches, channels=channels)[0] for channels in ("shared", "independent"))
    assert shared["val/mi_bound"] > 1.5
    assert own["val/mi_bound"] < 0.7 * shared["val/mi_bound"]  # 18 dB of the segments' own stand beside the 30
    assert own["mi_bound/pairs"] == shared["mi_bound/pairs"]


def test_independent_channels_do_not_depend_on_the_batches():
    x = utterances(200)
    module = TinySpeechModel()
    one, many = (validate(module, loader(x, size), channels="independent")[0] for size in (200, 7))
    assert one["val/mi_bound"] == pytest.approx(many["val/mi_bound"], abs=1e-5)


@pytest.mark.parametrize("option", [{"quantizer": "whitened"}, {"quantizer": "canonical"}])
def test_options_reach_the_estimator(option):
    module, x = TinySpeechModel(), utterances(200)
    plain, _ = validate(module, loader(x))
    other, _ = validate(module, loader(x), **option)
    assert other["val/mi_bound"] != plain["val/mi_bound"]
    assert other["val/mi_bound"] > 0.1
