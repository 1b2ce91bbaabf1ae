"""Which part of a module is called: models of libraries, `embed` and `layers`."""

import pytest
import torch
import transformers
from torch import nn

from lightning_mi.embedding.discovery import find_encoder
from tests.embedding.modules import WAVES, Embeds, Wraps, output_of, wav2vec2
from tests.helpers.library_models import hubert_pretrain, transformers_config


@pytest.mark.parametrize("make", [wav2vec2, lambda: wav2vec2(aux=7), hubert_pretrain])
def test_torchaudio_models_anywhere_inside(make):
    model = make().eval()
    module = Wraps(proj=nn.Linear(3, 3), holder=nn.Sequential(model)).eval()
    inner = getattr(model, "wav2vec2", model)
    expected = inner.extract_features(WAVES)[0][-1]
    for waves in (WAVES, WAVES[:, None]):
        torch.testing.assert_close(output_of(find_encoder(module), waves), expected)
    assert expected.shape[-1] == 16


@pytest.mark.parametrize("kind", ["Wav2Vec2", "Hubert", "WavLM", "Data2VecAudio"])
@pytest.mark.parametrize("head", ["Model", "ForCTC"])
def test_transformers_models_anywhere_inside(kind, head):
    model = getattr(transformers, f"{kind}{head}")(transformers_config(kind)).eval()
    module = Wraps(model=model).eval()
    expected = model.base_model(WAVES).last_hidden_state
    torch.testing.assert_close(output_of(find_encoder(module), WAVES[:, None]), expected)


def test_transformers_pretraining_head_is_left_out():
    model = transformers.Wav2Vec2ForPreTraining(transformers_config("Wav2Vec2")).eval()
    assert output_of(find_encoder(Wraps(model=model))).shape[-1] == 16


def test_transformers_models_of_features():
    features = torch.randn(3, 40, 20)
    config = transformers.Wav2Vec2BertConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        feature_projection_input_dim=20,
        add_adapter=False,
    )
    model = transformers.Wav2Vec2BertModel(config).eval()
    encoder = find_encoder(Wraps(holder=nn.Sequential(model)), time_dim=1)
    torch.testing.assert_close(output_of(encoder, features), model(features).last_hidden_state)
    config = transformers.Speech2TextConfig(
        vocab_size=9,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        input_feat_per_channel=20,
        conv_channels=16,
    )
    model = transformers.Speech2TextForConditionalGeneration(config).eval()
    encoder = find_encoder(Wraps(model=model), time_dim=1)  # its encoder: the decoder wants words
    torch.testing.assert_close(output_of(encoder, features), model.model.encoder(features).last_hidden_state)


def test_models_of_waveforms_are_not_asked_for_features():
    features = torch.randn(3, 1, 2000)  # one feature is no channel
    module = Wraps(teacher=wav2vec2(), hubert=transformers.HubertModel(transformers_config("Hubert")))
    with pytest.raises(
        ValueError, match=r"how to embed feature sequences.*no transformers model of `input_features`"
    ):
        find_encoder(module, time_dim=1)
    encoder = find_encoder(module, embed=lambda x: x.mT, time_dim=1)
    assert torch.equal(output_of(encoder, features), features.mT)


def test_the_model_in_training_is_chosen():
    teacher, student = wav2vec2().eval().requires_grad_(False), wav2vec2().eval()
    encoder = find_encoder(Wraps(teacher=teacher, student=student))
    assert encoder.name == "`student`"
    torch.testing.assert_close(output_of(encoder), student.extract_features(WAVES)[0][-1])
    assert find_encoder(Wraps(teacher=teacher)).name == "`teacher`"


def test_a_frozen_model_is_not_chosen_before_a_forward_that_is_trained():
    module = Embeds()
    module.teacher = wav2vec2().requires_grad_(False)
    assert find_encoder(module).name == "`forward`"
    assert find_encoder(module.requires_grad_(False)).name == "`teacher`"


def test_compiled_model_is_found():
    model = wav2vec2().eval()
    encoder = find_encoder(Wraps(model=torch.compile(model, backend="eager")))
    with torch.compiler.set_stance("force_eager"):  # as the callback calls it
        torch.testing.assert_close(output_of(encoder), model.extract_features(WAVES)[0][-1])


@pytest.mark.parametrize(
    ("embed", "factor"),
    [
        ("net", 1),
        ("encode", 2),
        ("forward", 1),
        (lambda x: 3 * torch.ones(len(x), 6), None),
        (lambda module, x: module.encode(x), 2),
        (lambda x, scale=2: torch.ones(len(x), 6), None),
        (lambda *args: torch.ones(len(args[0]), 6), None),
        (nn.Linear(2000, 6), None),
    ],
)
def test_embed_names_or_is_what_is_called(embed, factor):
    module = Embeds()
    output = output_of(find_encoder(module, embed))
    assert output.shape == (3, 6)
    if factor is not None:
        torch.testing.assert_close(output, factor * module(WAVES))


@pytest.mark.parametrize(
    ("module", "embed", "error", "message"),
    [
        (
            Embeds(),
            "nett",
            ValueError,
            r"`embed` must name a submodule or a method of Embeds, got 'nett'.*nearest.*net",
        ),
        (Embeds(), "net.wieght", ValueError, r"got 'net.wieght'"),
        (Embeds(), "constant", TypeError, r"got 'constant', a int"),
        (Embeds(), 5, TypeError, r"`embed` must be a dotted name or a callable, got 5"),
        (Embeds(), lambda a, b, c: a, TypeError, r"3 required arguments"),
        (Wraps(net=nn.Linear(3, 3)), None, ValueError, r"Cannot tell how to embed.*Pass `embed=`"),
    ],
)
def test_bad_embed_is_named(module, embed, error, message):
    with pytest.raises(error, match=message):
        find_encoder(module, embed)


def test_layers_by_name_glob_and_all():
    model = hubert_pretrain().eval()
    module = Wraps(model=model)
    expected, _ = model.wav2vec2.extract_features(WAVES)
    prefix = "model.wav2vec2.encoder.transformer.layers"
    for layers in ("all", f"{prefix}.?", f"{prefix}.*", [f"{prefix}.0", f"{prefix}.1"]):
        encoder = find_encoder(module, layers=layers)
        assert encoder.layer_names == (f"{prefix}.0", f"{prefix}.1")
        for frames, reference in zip(encoder(WAVES).values(), expected, strict=True):
            torch.testing.assert_close(frames, reference)
    assert all(not m._forward_hooks for m in module.modules())


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        ("nett", ValueError, r"`layers` must name submodules of Embeds, got 'nett'.*nearest names are: net"),
        (["net", "x*"], ValueError, r"got 'x\*'"),
        ([3], TypeError, r"got 3"),
        (3, TypeError, r"`layers` must be a name or a list of names of submodules, got 3"),
        ({"net": 1}, TypeError, r"`layers` must be a name or a list of names"),
        ([], ValueError, r"empty list"),
        ("all", ValueError, r"finds no list of blocks"),
    ],
)
def test_bad_layers_are_named(layers, error, message):
    with pytest.raises(error, match=message):
        find_encoder(Embeds(), layers=layers)
