"""What a validation step does to its input before it calls the model."""

import pytest
import torch
from torch import nn
from torch.nn.modules import module as torch_modules

from lightning_mi.embedding.discovery import find_encoder
from lightning_mi.embedding.step_input import StepInput, is_compiled
from tests.embedding.modules import Embeds
from tests.helpers.models import TinySpeechModel, loader
from tests.helpers.run_callback import run_callback
from tests.helpers.speech import utterances

X = torch.randn(4, 2000, generator=torch.Generator().manual_seed(0))


def global_hooks():
    """Traces of a listener: hooks of all modules, and torch's note that one takes keyword arguments."""
    with_kwargs = getattr(torch_modules, "_global_forward_hooks_with_kwargs", {})
    return [*torch_modules._global_forward_hooks, *with_kwargs]


def doubt(step, waveforms=X, embed=None):
    """What is said of a step, a function of the module and the waveforms."""
    module = Embeds()
    listener = StepInput(find_encoder(module, embed), module, waveforms)
    step(module, waveforms)
    found = listener.doubt()
    assert not global_hooks()
    return found


@pytest.mark.parametrize(
    "step",
    [
        lambda module, x: module(x),
        lambda module, x: module(x + 0.1 * torch.randn_like(x)),
        lambda module, x: module(torch.cat([x, x])),
        lambda module, x: module(x[:, None]),
        lambda module, x: None,
        lambda module, x: module.net(x / 32768),  # not what is called for embeddings
    ],
)
def test_a_step_that_calls_the_model_with_the_batch_is_not_doubted(step):
    assert doubt(step) is None


@pytest.mark.parametrize(
    "step",
    [
        lambda module, x: module(x / 32768),
        lambda module, x: module(nn.functional.layer_norm(x, x.shape)),
        lambda module, x: module(x=(x / 32768)),
    ],
)
def test_a_step_that_scales_is_doubted_with_both_scales(step):
    found = doubt(step, 300 * X)
    assert f"standard deviation {(300 * X).std():.3g}" in found
    assert "`batch_to_waveforms=`" in found


def test_a_step_that_makes_something_else_is_doubted():
    found = doubt(lambda module, x: module.net(torch.randn(4, 3, 2000)), embed="net")
    assert "(4, 3, 2000)" in found


def test_compiled_modules_are_seen():
    class Decorated(nn.Module):
        @torch.compile(backend="eager")
        def helper(self, x):
            return x

    inner = nn.Sequential(nn.Linear(2, 2))
    assert not is_compiled(inner)
    inner[0].compile(backend="eager")
    assert is_compiled(inner)
    assert is_compiled(nn.Sequential(Decorated()))
    module = Embeds()
    module.net = torch.compile(module.net, backend="eager")
    StepInput(find_encoder(module), module, X)
    assert not global_hooks()


class Scales(TinySpeechModel):
    def validation_step(self, batch, batch_idx):
        self(batch / 100)


def test_it_is_said_once_in_a_run():
    x = utterances(60)
    run = run_callback(Scales(), loader(x), num_clusters=4)
    assert len([text for text in run.warnings if "your step calls it with something else" in text]) == 1
    run = run_callback(TinySpeechModel(), loader(x), num_clusters=4)
    assert not run.warnings


class Raises(TinySpeechModel):
    def validation_step(self, batch, batch_idx):
        raise KeyError("path")


def test_nothing_listens_after_a_step_that_raises():
    with pytest.raises(KeyError, match="path"):
        run_callback(Raises(), loader(utterances(40)), num_clusters=4)
    assert not global_hooks()


class NoForward(TinySpeechModel):
    def forward(self, x):
        raise KeyError("audio")


def test_without_a_sanity_check_the_model_is_tried_with_noise_before_training():
    for model, said in ((NoForward(), 1), (TinySpeechModel(), 0)):
        model.loss = lambda batch, model=model: model.head.weight.sum()
        run = run_callback(
            model,
            utterances(40),
            fn="fit",
            train=utterances(8),
            trainer={"num_sanity_val_steps": 0},
            num_clusters=4,
        )
        texts = [text for text in run.warnings if "cannot embed noise of shape (4, " in text]
        assert len(texts) == said
