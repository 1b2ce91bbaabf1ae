"""Masks: which value is sound, by what lies under it."""

from types import SimpleNamespace

import pytest
import torch

from lightning_mi.inputs.batches import waveforms_in_batch
from lightning_mi.inputs.structure import UnknownStructureError

B, T = 4, 16_000
LENGTHS = torch.tensor([16_000, 12_000, 9000, 15_500])
MASK = torch.arange(T) < LENGTHS[:, None]
CLEAN = torch.randn(B, T, generator=torch.Generator().manual_seed(0))
WAVES = CLEAN * MASK
DITHERED = torch.where(MASK, CLEAN, 1e-4 * CLEAN)  # padding that is not constant
NORMALISED = torch.where(MASK, CLEAN, -0.01 * torch.arange(1, B + 1)[:, None])


@pytest.mark.parametrize("waves", [WAVES, DITHERED, NORMALISED], ids=["zeros", "dithered", "normalised"])
@pytest.mark.parametrize(
    ("name", "mask"),
    [
        ("attention_mask", MASK.int()),
        ("padding_mask", MASK.int()),  # transformers' codecs
        ("padding_mask", ~MASK),  # fairseq
        ("padding_mask", MASK[:, None]),
        ("mask", MASK.float()),
    ],
)
def test_both_readings_of_a_mask(waves, name, mask):
    assert waveforms_in_batch({"input_values": waves, name: mask}).lengths.tolist() == LENGTHS.tolist()


@pytest.mark.parametrize("mask", [torch.ones(B, T), torch.zeros(B, T, dtype=torch.bool)], ids=["codec", "fairseq"])
def test_a_mask_of_one_value_is_no_padding(mask):
    assert waveforms_in_batch({"input_values": CLEAN, "padding_mask": mask}).lengths.tolist() == [T] * B


def test_inverted_and_additive_masks_are_told_by_the_padding():
    for mask in (~MASK, torch.zeros(B, T).masked_fill(~MASK, float("-inf"))):
        assert waveforms_in_batch({"input_values": WAVES, "mask": mask}).lengths.tolist() == LENGTHS.tolist()


def test_what_was_masked_is_no_mask():
    batch = {"masked_audio": WAVES}
    assert waveforms_in_batch(batch).lengths.tolist() == LENGTHS.tolist()


@pytest.mark.parametrize("name", ["attention_mask", "padding_mask"])
def test_padding_at_the_start_is_refused_and_never_read_as_sound(name):
    with pytest.raises(UnknownStructureError, match=r"mask of padding(.|\n)*Pad at the end"):
        waveforms_in_batch({"input_values": WAVES.flip(1), name: MASK.flip(1).int()})


def test_lengths_of_the_waveforms_come_before_those_of_tokens():
    tokens = SimpleNamespace(data=torch.ones(B, 7, dtype=torch.long), lengths=torch.tensor([1.0, 0.5, 0.2, 0.3]))
    batch = SimpleNamespace(tokens=tokens, sig=SimpleNamespace(data=WAVES, lengths=LENGTHS / T))
    assert waveforms_in_batch(batch).lengths.tolist() == LENGTHS.tolist()
