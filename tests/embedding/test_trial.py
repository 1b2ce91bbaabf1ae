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
    assert "It is called with segments of shape (1, 4000), torch.float32." in answer.line
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
        lambda x: {"x": spectra(x), "h": 2 * spectra(x)},
        lambda x: spectra(x) @ spectra(x).mT,  # attention
        lambda x: spectra(x).flatten(0, 1),  # (B T, D): which is first?
        lambda x: x[0],
    ],
)
def test_what_cannot_be_told_is_refused_with_both_shapes(function):
    with pytest.raises(UnknownStructureError, match=r"for 4 segments of 4000 samples .* for 6 of 8000"):
        ask(Calls(function))


def test_a_model_of_a_fixed_length_is_read_as_assumed_and_doubted():
    def fixed(x):
        return spectra(x)[:, :20] if x.shape[1] == 4000 else 1 / 0

    answer, found = ask(Calls(fixed))
    torch.testing.assert_close(found["output"], spectra(SEGMENTS)[:, :20])
    assert "20 frames of 41 features (assumed)" in answer.line
    assert "(4, 20, 41) is read as (B, T, D). Pass `embed=" in answer.doubts[0]
    answer, _ = ask(Calls(fixed), embed=lambda module, x: module(x))  # the user has said it
    assert not answer.doubts


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


# ---- what may be another one


def test_the_line_names_the_part_that_was_taken():
    answer, found = ask(Calls(lambda x: {"z": spectra(x)[..., :5], "h": spectra(x)}))
    assert "output['z'] (B, 50, 5)" in answer.line
    answer, found = ask(Calls(lambda x: {"encoder_out": [spectra(x).mT]}))
    assert "output['encoder_out'][0] (B, 41, 50)" in answer.line


@pytest.mark.parametrize(
    "function",
    [
        lambda x: {"teacher": {"z": 2 * spectra(x)}, "student": {"z": spectra(x)}},
        lambda x: ([spectra(x)] * 2, [2 * spectra(x)] * 2),
        lambda x: [[spectra(x)], [2 * spectra(x)]],
    ],
)
def test_two_structures_beside_each_other_are_ambiguous(function):
    with pytest.raises(UnknownStructureError, match="Cannot tell which part"):
        ask(Calls(function))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.nested.nested_tensor(list(spectra(x))),
        lambda x: spectra(x).to_sparse(),
        lambda x: torch.fft.rfft(x.unfold(-1, 80, 80)),
    ],
)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_tensors_that_are_no_embeddings_are_refused_in_our_words(function):
    with pytest.raises(UnknownStructureError, match=r"Cannot tell which part .* Pass `embed="):
        ask(Calls(function))


def test_frames_behind_the_returned_lengths_are_padding():
    def padded(x):
        frames = spectra(x)
        return nn.functional.pad(frames, (0, 0, 0, 9), value=7.0), torch.full((len(x),), frames.shape[1])

    _, found = ask(Calls(padded))
    torch.testing.assert_close(found["output"], spectra(SEGMENTS))


@pytest.mark.parametrize("dim", [1, 2])
def test_a_vector_with_a_dimension_of_one_is_a_vector_and_no_waveform(dim):
    answer, found = ask(Calls(lambda x: spectra(x).mean(1).repeat(1, 60).unsqueeze(dim)))
    torch.testing.assert_close(found["output"], spectra(SEGMENTS).mean(1).repeat(1, 60))
    assert not answer.doubts


def test_models_that_take_views_in_pairs():
    _, found = ask(Calls(lambda x: torch.cat([spectra(half) for half in x.unflatten(0, (2, -1))])))
    torch.testing.assert_close(found["output"], spectra(SEGMENTS))


def test_two_models_that_are_trained_are_doubted_and_a_teacher_comes_last():
    class Two(Wraps):
        def forward(self, x):
            return self.student(x)

    def model():
        return transformers.Wav2Vec2Model(transformers_config("Wav2Vec2")).eval()

    answer, _ = ask(Two(ema_teacher=model(), student=model()))
    assert "embeds segments with `student`" in answer.line
    assert "could with `ema_teacher`" in answer.doubts[0]


def test_a_layer_that_runs_twice_and_one_that_is_changed_in_place():
    class Twice(Wraps):
        def forward(self, x):
            return torch.relu_(self.linear(spectra(x))) + self.linear(2 * spectra(x)).relu_()

    module = Twice(linear=nn.Linear(41, 4))
    answer, found = ask(module, layers=["linear"])
    assert "layer 'linear', which runs 2 times" in answer.doubts[0]
    torch.testing.assert_close(found["linear"], module.linear(2 * spectra(SEGMENTS)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_segments_of_another_type_are_cast_if_the_model_takes_no_other(dtype):
    module = Wraps(linear=nn.Linear(4000, 4))
    module.forward = lambda x: module.linear(x)
    answer, found = ask(module, SEGMENTS.to(dtype), embed=lambda module, x: module.linear(x))
    assert answer.prepare.dtype == torch.float32
    torch.testing.assert_close(found["output"], module.linear(SEGMENTS.to(dtype).float()))


def test_the_shape_that_the_step_uses_comes_first():
    def centred(x):
        return spectra((x - x.mean(1, keepdim=True)).squeeze(1))

    def asked(as_in_step):
        module = Calls(centred)
        encoder = find_encoder(module)
        answer = ask_encoder(
            encoder,
            lambda e, rows, seed: (e.run(rows), False),
            SEGMENTS[:, None],
            module,
            Layout(),
            16000,
            as_in_step,
        )
        return answer.applied_to(encoder)(SEGMENTS[:, None])["output"]

    torch.testing.assert_close(asked(2), centred(SEGMENTS))
    assert not asked(None).any()


def test_masks_are_off_only_if_they_are_random():
    class Masked(pl.LightningModule):
        def __init__(self, random):
            super().__init__()
            self.random = random

        def forward(self, x, mask=True):
            z = spectra(x)
            if mask:
                z = z * (torch.rand(z.shape[:2]) < 0.5)[..., None] if self.random else z.cumsum(1)
            return z

    answer, found = ask(Masked(random=True))
    torch.testing.assert_close(found["output"], spectra(SEGMENTS))
    assert "`forward` with mask=False" in answer.line
    answer, found = ask(Masked(random=False))  # a causal one
    torch.testing.assert_close(found["output"], spectra(SEGMENTS).cumsum(1))


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


CLOCK = torch.Generator().manual_seed(0)  # of the file: no generator of the model

SHARES = {
    "batch statistics": lambda z: z - z.mean(0, keepdim=True),
    "a generator of the file": lambda z: z + torch.randn(z.shape[-1], generator=CLOCK),
}


@pytest.mark.parametrize("name", SHARES)
def test_what_the_segments_of_a_call_share_is_doubted(name):
    run = run_callback(ChannelFirst(SHARES[name]), loader(utterances(40)), num_clusters=4)
    (text,) = (text for text in run.warnings if "is another in another call" in text)
    assert "counts as information" in text
    run = run_callback(ChannelFirst(), loader(utterances(40)), num_clusters=4)
    assert not run.warnings


@pytest.mark.parametrize("arrange", [lambda z: z.mT, lambda z: {"z": z}, lambda z: (z, z[..., 0])])
def test_random_models_are_read_once(arrange):
    def noisy(make):
        return ChannelFirst(lambda z: make(z + 0 * torch.rand(1) + 1e-3 * torch.randn(z.shape[1:])))

    x = utterances(64)
    assert (
        run_callback(noisy(arrange), x, num_clusters=4).bound
        == run_callback(noisy(lambda z: z), x, num_clusters=4).bound
    )


def test_a_forward_may_change_its_input_and_return_a_buffer():
    class Changes(ChannelFirst):
        def __init__(self):
            super().__init__()
            self.register_buffer("kept", torch.zeros(512, 20, 8))

        def forward(self, x):
            x = x.mul_(2)
            z = super().forward(x)
            self.kept[: len(z), : z.shape[1]] = z
            return self.kept[: len(z), : z.shape[1]]

    class Plain(ChannelFirst):
        def forward(self, x):
            return super().forward(2 * x)

    x = utterances(64)
    changes, plain = (run_callback(make(), x, num_clusters=4).logged for make in (Changes, Plain))
    for name in ("val/mi_bound", "mi_bound/input"):
        assert changes[name] == plain[name] > 0


def test_what_a_forward_logs_is_of_the_users_calls_alone():
    class Logs(ChannelFirst):
        def forward(self, x):
            self.log("length", float(x.shape[-1]))
            return super().forward(x)

        def validation_step(self, batch, batch_idx):
            self(batch)

    x = utterances(64)
    assert run_callback(Logs(), x, num_clusters=4).logged["length"] == x.shape[1]


def test_an_encoder_that_changes_during_the_run_is_asked_again():
    class Unfreezes(Wraps):
        def __init__(self):
            super().__init__(
                backbone=transformers.Wav2Vec2Model(transformers_config("Wav2Vec2")).requires_grad_(False),
                head=nn.Linear(16, 4),
            )

        def forward(self, x):
            return self.head(self.backbone(x).last_hidden_state).mean(1)

        def training_step(self, batch, batch_idx):
            self.backbone.requires_grad_(True)
            return self(batch).square().mean()

        def validation_step(self, batch, batch_idx):
            pass

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.0)

    run = run_callback(
        Unfreezes(),
        utterances(40, seconds=2.0),
        fn="fit",
        train=utterances(8),
        num_clusters=4,
        segment_seconds=0.5,
        sample_rate=1000,
        trainer={"max_epochs": 2},
    )
    assert run.callback.no_value_reason is None
    assert all("val/mi_bound" in epoch for epoch in run.epochs)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_scripted_parts_take_no_hooks():
    class Draws(Wraps):
        def forward(self, x):
            return nn.functional.dropout(self.scripted(spectra(x)))

    answer, _ = ask(Draws(scripted=torch.jit.script(nn.Linear(41, 4))))
    assert answer.draws_in == ("forward",)
    assert "200 a second" in answer.line
