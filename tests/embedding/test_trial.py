"""What a trial call tells: where time lies, what is no embedding, what `forward` does first, who draws."""

from collections import namedtuple

import lightning.pytorch as pl
import pytest
import torch
import transformers
from torch import nn

from lightning_mi.embedding.discovery import find_encoder
from lightning_mi.embedding.isolation import isolated
from lightning_mi.embedding.trial import Answer
from lightning_mi.embedding.trial import ask as ask_encoder
from lightning_mi.inputs.layout import Layout
from lightning_mi.inputs.structure import UnknownStructureError
from tests.embedding.modules import Wraps
from tests.helpers.library_models import transformers_config
from tests.helpers.models import loader
from tests.helpers.run_callback import run_callback
from tests.helpers.speech import utterances

SEGMENTS = torch.randn(8, 4000, generator=torch.Generator().manual_seed(0))
Pair = namedtuple("Pair", ["mask", "frames"])


def spectra(x):
    """``(B, T)`` to ``(B, T', 41)``, 80 samples apart."""
    return torch.fft.rfft(x.unfold(-1, 80, 80)).abs()


class Calls(pl.LightningModule):
    """``forward`` is the function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def ask(module, segments=SEGMENTS, time_dim=None, **arguments) -> tuple[Answer, dict]:
    """The answer, and the embeddings of all segments by it."""
    encoder = find_encoder(module, time_dim=time_dim, **arguments)

    def run(encoder, rows, seed):
        with isolated(module, seed) as randomness:
            return encoder.run(rows), randomness.was_drawn_from()

    answer = ask_encoder(encoder, run, segments, module, Layout(time_dim), 16000)
    with torch.no_grad():
        return answer, answer.applied_to(encoder)(segments)


def image(x):
    """``(B, 3, F, T)``, as a 2-D convolution gives it."""
    return torch.stack([k * spectra(x).mT for k in (1, 2, 3)], dim=1)


LAYOUTS = {
    "(B, T, D)": (spectra, spectra),
    "(B, D, T)": (lambda x: spectra(x).mT, spectra),
    "(T, B, D)": (lambda x: spectra(x).transpose(0, 1), spectra),
    "(D, T, B)": (lambda x: spectra(x).permute(2, 1, 0), spectra),
    "(B, C, F, T)": (image, lambda x: image(x).flatten(1, 2).mT),
    "(B, T, C, F)": (lambda x: image(x).permute(0, 3, 1, 2), lambda x: image(x).flatten(1, 2).mT),
    "(B, 1, T, D)": (lambda x: spectra(x)[:, None], spectra),
    "a vector": (lambda x: spectra(x).mean(1), lambda x: spectra(x).mean(1)),
    "a flat vector": (lambda x: spectra(x)[..., :3].flatten(1), lambda x: spectra(x)[..., :3].flatten(1)),
    "frames, channel first, and lengths": (lambda x: (spectra(x).mT, torch.full((len(x),), 50)), spectra),
    "frames beside a state (L, B, H)": (lambda x: (spectra(x), (torch.ones(2, len(x), 5),) * 2), spectra),
    "layers, channel first": (lambda x: [spectra(x).mT * 0, spectra(x).mT], spectra),
    "frames beside a reconstruction": (lambda x: {"x": x[:, None], "z": spectra(x)}, spectra),
    "a waveform before the frames": (lambda x: (x, spectra(x).mT), spectra),
    "fairseq's": (lambda x: {"x": spectra(x), "features": image(x)[:, 1].mT, "padding_mask": None}, spectra),
    "a namedtuple": (lambda x: Pair(torch.ones(len(x), 50, dtype=torch.bool), spectra(x).mT), spectra),
    "ESPnet's": (lambda x: {"encoder_out": [spectra(x).transpose(0, 1)], "logits": spectra(x)[..., :5]}, spectra),
    "takes (B, 1, T)": (lambda x: spectra(x.squeeze(1)) if x.ndim == 3 else 1 / 0, spectra),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_frames_are_those_a_reader_of_the_manual_would_take(name):
    function, expected = LAYOUTS[name]
    _, found = ask(Calls(function))
    torch.testing.assert_close(found["output"], expected(SEGMENTS))


def test_the_line_says_what_is_embedded():
    answer, _ = ask(Calls(lambda x: spectra(x).mT))
    assert answer.line == (
        "embeds segments with `forward`: output (B, 41, 50), 50 frames of 41 features, 200 a second."
    )
    answer, _ = ask(Calls(lambda x: spectra(x).mean(1)))
    assert "one vector of 41 features" in answer.line
    answer, _ = ask(Calls(LAYOUTS["takes (B, 1, T)"][0]))
    assert "It is called with segments (1, 4000)." in answer.line
    answer, _ = ask(Calls(spectra), embed=lambda x: spectra(x))
    assert "embeds segments with `embed`" in answer.line


def test_layers_that_are_convolutions_are_read_beside_those_that_are_not():
    conv, rnn = nn.Conv1d(1, 6, 20, 10), nn.GRU(6, 5, batch_first=True)

    class Stack(Wraps):
        def forward(self, x):
            return self.rnn(self.conv(x[:, None]).mT)

    answer, found = ask(Stack(conv=conv, rnn=rnn), layers=["conv", "rnn"])
    torch.testing.assert_close(found["conv"], conv(SEGMENTS[:, None]).mT)
    torch.testing.assert_close(found["rnn"], rnn(conv(SEGMENTS[:, None]).mT)[0])
    assert "conv (B, 6, 399), 399 frames of 6 features" in answer.line


WAVEFORMS = {
    "separation": lambda x: torch.stack([x, x], 1),
    "time before sources": lambda x: torch.stack([x, x], 2),
    "stereo sources": lambda x: x[:, None, None].expand(-1, 4, 2, -1),
    "one": lambda x: 0.5 * x,
    "twice the rate": lambda x: x.repeat_interleave(2, 1)[:, None],
    "in a dictionary": lambda x: {"audio": x[:, None]},
    "of a fixed length": lambda x: x[:, None] if x.shape[1] == 4000 else 1 / 0,
}


@pytest.mark.parametrize("name", WAVEFORMS)
def test_a_waveform_is_no_embedding(name):
    with pytest.raises(
        UnknownStructureError, match=r"output of `forward` is as long as the segments .* Pass `embed="
    ):
        ask(Calls(WAVEFORMS[name]))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: (spectra(x), 2 * spectra(x)),  # a mean and a variance, a student and a teacher
        lambda x: {"mean": spectra(x), "variance": spectra(x)},
        lambda x: spectra(x) @ spectra(x).mT,  # attention
        lambda x: spectra(x).flatten(0, 1),  # (B T, D): which is first?
        lambda x: x[0],
    ],
)
def test_what_cannot_be_told_is_refused_with_both_shapes(function):
    with pytest.raises(UnknownStructureError, match=r"for 3 segments of 4000 samples .* for 4 segments of 8000"):
        ask(Calls(function))


def test_a_model_of_a_fixed_length_is_read_as_assumed_and_doubted_if_it_looks_otherwise():
    def fixed(x, frames):
        return frames(x) if x.shape[1] == 4000 else 1 / 0

    answer, found = ask(Calls(lambda x: fixed(x, lambda x: spectra(x)[:, :20])))
    torch.testing.assert_close(found["output"], spectra(SEGMENTS)[:, :20])
    assert not answer.doubts
    assert "20 frames of 41 features (assumed)" in answer.line
    answer, found = ask(Calls(lambda x: fixed(x, lambda x: spectra(x)[:, :20].mT)))
    assert "(3, 41, 20) is read as (B, T, D). If it is (B, D, T), pass `embed=" in answer.doubts[0]


def test_a_model_of_a_maximal_length_is_asked_with_shorter_segments():
    def at_most(x):
        return spectra(x).mT if x.shape[1] <= 4000 else 1 / 0

    answer, found = ask(Calls(at_most))
    torch.testing.assert_close(found["output"], spectra(SEGMENTS))
    assert "200 a second" in answer.line


@pytest.mark.parametrize("time_dim", [1, 2])
def test_feature_sequences_have_frames_as_many_as_they_like(time_dim):
    sequences = torch.randn(5, 30, 7) if time_dim == 1 else torch.randn(5, 7, 30)
    _, found = ask(Calls(lambda x: 2 * x), sequences, time_dim)
    torch.testing.assert_close(found["output"], 2 * (sequences if time_dim == 1 else sequences.mT))
    _, found = ask(Calls(lambda x: 2 * x.mT), sequences, time_dim)
    torch.testing.assert_close(found["output"], 2 * (sequences if time_dim == 1 else sequences.mT))


# ---- a `forward` that prepares the input of the model inside


class Prepares(Wraps):
    """``forward`` gives the model what ``prepare`` makes of the waveforms."""

    def __init__(self, prepare):
        torch.manual_seed(0)
        super().__init__(model=transformers.Wav2Vec2Model(transformers_config("Wav2Vec2")))
        self.prepare = prepare
        self.eval()

    def forward(self, x):
        return self.model(self.prepare(x)).last_hidden_state.mean(1)


@pytest.mark.parametrize(
    ("prepare", "through"),
    [
        (lambda x: x, False),
        (lambda x: x.clone(), False),
        (lambda x: x / 32768, True),
        (lambda x: (x - x.mean(1, True)) / x.std(1, keepdim=True) * 3, True),
        (lambda x: x[:, ::3], True),
    ],
)
def test_what_forward_does_first_is_not_skipped(prepare, through):
    module = Prepares(prepare)
    answer, found = ask(module)
    assert answer.through_forward is through
    assert ("as `forward` calls it" in answer.line) is through
    with torch.no_grad():
        expected = module.model(prepare(SEGMENTS)).last_hidden_state
    torch.testing.assert_close(found["output"], expected)


def test_a_preparation_that_cannot_be_used_is_told():
    class Twice(Prepares):
        def forward(self, x):
            return self.model(x * 2).last_hidden_state + self.model(x * 3).last_hidden_state

    class WantsLabels(Prepares):
        def forward(self, x):
            return self.model(x * 2).last_hidden_state[self.missing]

    for module, why in ((Twice(None), "calls it more than once"), (WantsLabels(None), "with segments alone")):
        answer, found = ask(module)
        assert why in answer.doubts[0]
        assert "standard deviation 2" in answer.doubts[0]
        with torch.no_grad():
            torch.testing.assert_close(found["output"], module.model(SEGMENTS).last_hidden_state)


def test_a_forward_that_takes_something_else_is_let_be():
    class OfBatch(Prepares):
        def forward(self, batch):
            return self.model(batch["audio"] * 2)

    answer, _ = ask(OfBatch(None))
    assert not answer.through_forward
    assert not answer.doubts


# ---- random numbers


def test_who_draws_is_named():
    class Masks(nn.Module):
        def forward(self, x):
            return x * (torch.rand(x.shape[:2]) < 0.5)[..., None]

    class Draws(Wraps):
        def forward(self, x):
            return self.blocks(spectra(x))

    answer, _ = ask(Draws(blocks=nn.Sequential(nn.Linear(41, 4), Masks(), nn.Linear(4, 4), Masks())))
    assert answer.draws_in == ("blocks.1", "blocks.3")
    answer, _ = ask(Calls(lambda x: spectra(x) + torch.rand(1)))
    assert answer.draws_in == ("forward",)
    assert ask(Calls(spectra))[0].draws_in == ()


# ---- in a Trainer


class ChannelFirst(pl.LightningModule):
    """A model to be validated, whose output is as ``function`` arranges it."""

    def __init__(self, arrange=lambda z: z):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(41, 8)
        self.arrange = arrange
        self.calls = []

    def forward(self, x):
        return self.arrange(self.linear(spectra(x).log1p()))

    def validation_step(self, batch, batch_idx):
        pass


@pytest.mark.parametrize("settings", [{}, {"pooling": "mean"}, {"layers": ["linear"]}])
def test_channel_first_logs_what_channel_last_logs(settings):
    x = utterances(96)
    runs = [
        run_callback(ChannelFirst(arrange), loader(x), num_clusters=4, **settings)
        for arrange in (lambda z: z, lambda z: z.mT, lambda z: z.transpose(0, 1))
    ]
    assert runs[0].bound == runs[1].bound == runs[2].bound
    assert runs[0].bound > 0.1
