"""How a forward is called with segments alone."""

import pytest
import torch
from torch import nn

from lightning_mi.embedding.discovery import find_encoder
from lightning_mi.embedding.signature import adapted
from tests.embedding.modules import Wraps, output_of

X = torch.randn(3, 400)


def got(forward, x=X, time_dim=-1, unmasked=True):
    """What ``forward`` is called with, by name."""
    return adapted(forward, time_dim, unmasked)(x)


def test_masks_and_heads_that_a_forward_asks_for_by_default_are_off():
    def fairseq(source, padding_mask=None, mask=True, features_only=False, layer=None):
        return mask, features_only, padding_mask, layer

    def other(x, apply_mask=True, *, spec_augment=True, return_mask=True, mask_prob=0.65):
        return apply_mask, spec_augment, return_mask, mask_prob

    assert got(fairseq) == (False, True, None, None)
    assert got(other) == (False, False, True, 0.65)
    assert got(fairseq, unmasked=False) == (True, True, None, None)
    assert adapted(other) is other


@pytest.mark.parametrize(
    "forward",
    [
        lambda x: x,
        lambda x, mask=None: (x, mask),
        lambda x, mask=False: (x, mask),
        lambda *args, **kwargs: args,
        torch.abs,
    ],
)
def test_what_needs_no_adaptation_is_the_same_function(forward):
    assert adapted(forward) is forward


def test_input_by_keyword_alone_with_its_lengths():
    def nemo(*, input_signal=None, input_signal_length=None, processed_signal=None, processed_signal_length=None):
        return input_signal, input_signal_length, processed_signal, processed_signal_length

    signal, lengths, processed, processed_lengths = got(nemo)
    assert signal is X
    assert lengths.tolist() == [400] * 3
    assert processed is processed_lengths is None

    def encoder(*, audio_signal, length):
        return length

    assert got(encoder, torch.zeros(2, 80, 30)).tolist() == [30, 30]
    assert got(encoder, torch.zeros(2, 30, 80), time_dim=1).tolist() == [30, 30]


def test_lengths_and_padding_that_must_be_given_say_that_all_is_sound():
    def s3prl(wavs, wavs_len):
        return wavs_len

    def speechbrain(wavs, wav_lens):
        return wav_lens

    def espnet(xs_pad, ilens, prev_states=None):
        return ilens

    def torchaudio(waveforms, lengths=None):
        return lengths

    def padded(x, padding_mask, attention_mask):
        return padding_mask, attention_mask

    assert got(s3prl).tolist() == [400] * 3
    assert got(speechbrain).tolist() == [1.0] * 3
    assert got(espnet).tolist() == [400] * 3
    assert got(torchaudio) is None
    padding, attention = got(padded)
    assert not padding.any()
    assert attention.all()
    assert padding.shape == attention.shape == X.shape


def test_a_scripted_module_is_called_as_it_is():
    scripted = torch.jit.script(nn.Linear(400, 4))
    torch.testing.assert_close(adapted(scripted)(X), scripted(X))


class ModelPT(Wraps):
    """As NeMo's, whose module and name tell it."""


ModelPT.__module__ = "nemo.core.classes.modelPT"


class FrontEnd(nn.Module):
    def forward(self, *, input_signal, length):
        frames = input_signal.unfold(1, 20, 10).mT  # (B, 20, T')
        return nn.functional.pad(frames, (0, 16 - frames.shape[2] % 16)), torch.full(
            (len(frames),), frames.shape[2]
        )


class Conformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(20, 6, 1)

    def forward(self, *, audio_signal, length):
        return self.conv(audio_signal), length


class MaskedNeMo(ModelPT):
    def forward(
        self, input_signal=None, input_signal_length=None, processed_signal=None, processed_signal_length=None
    ):
        raise TypeError("All arguments must be passed by kwargs only for typed methods")


def test_nemo_models_are_encoded_unmasked_and_without_the_padding_of_their_features():
    model = MaskedNeMo(preprocessor=FrontEnd(), encoder=Conformer())
    expected = model.encoder.conv(X.unfold(1, 20, 10).mT).mT
    for module, x in ((model, X), (Wraps(model=model), X), (model, X[:, None])):
        torch.testing.assert_close(output_of(find_encoder(module), x), expected)
