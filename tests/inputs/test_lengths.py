"""True lengths: from masks, from names, and from trailing zeros."""

from collections import namedtuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_mi.inputs.batches import read_batch, waveforms_in_batch
from lightning_mi.inputs.layout import Layout
from lightning_mi.inputs.lengths import lengths_without_trailing_zeros
from lightning_mi.inputs.structure import UnknownStructureError

B, T = 3, 1000
LENGTHS = torch.tensor([1000, 600, 800])
WAVES = torch.randn(B, T) * (torch.arange(T) < LENGTHS[:, None])
MASK = torch.arange(T) < LENGTHS[:, None]
Batch = namedtuple("Batch", ["inputs", "labels"])


F = 6
FRAMES = torch.tensor([90, 40, 70])
MASK_OF_FRAMES = torch.arange(90) < FRAMES[:, None]
SEQUENCES = torch.randn(B, 90, F) * MASK_OF_FRAMES[..., None]
LOG_MEL = SEQUENCES.masked_fill(~MASK_OF_FRAMES[..., None], -11.5)  # padded with the floor, not with zeros
ONE_BY_ONE = [SEQUENCES[i, : FRAMES[i]] for i in range(B)]


def test_mask_is_believed_over_zeros():
    waves = WAVES.clone()
    waves[1, 300:] = 0  # silence that is not padding
    assert waveforms_in_batch({"input_values": waves, "attention_mask": MASK}).lengths.tolist() == LENGTHS.tolist()
    assert waveforms_in_batch({"input_values": waves}).lengths.tolist() == [1000, 300, 800]


def test_labels_are_not_lengths():
    batch = (torch.randn(B, T), torch.tensor([7, 3, 12]))
    assert waveforms_in_batch(batch).lengths.tolist() == [T] * B


def test_all_zeros_have_no_length():
    assert waveforms_in_batch(torch.zeros(2, T)).lengths.tolist() == [0, 0]


def test_left_padding_is_refused():
    with pytest.raises(UnknownStructureError, match="mask of padding"):
        waveforms_in_batch({"input_values": WAVES, "attention_mask": MASK.flip(1)})


def test_labels_that_reach_up_to_the_number_of_frames_are_not_lengths():
    batch = (torch.randn(B, 90, F), torch.tensor([90, 3, 12]))
    assert waveforms_in_batch(batch, Layout(1)).lengths.tolist() == [90] * B


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=6), st.integers(0, 2**31))
def test_trailing_zeros_are_padding_and_inner_ones_are_not(lengths, seed):
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randint(-1, 2, (len(lengths), 32, 2), generator=generator).float()
    for row, length in enumerate(lengths):
        frames[row, length:] = 0
        frames[row, length - 1 : length] = 1
    assert lengths_without_trailing_zeros(frames).tolist() == lengths


LONG = torch.tensor([16_000, 12_000, 9000, 15_500])
SOUND = torch.randn(4, 16_000, generator=torch.Generator().manual_seed(0))
PADDED = SOUND * (torch.arange(16_000) < LONG[:, None])
DITHERED = torch.where(PADDED != 0, SOUND, 1e-4 * SOUND)


@pytest.mark.parametrize(
    ("waves", "name", "lengths"),
    [
        (PADDED, "durations", LONG / 16_000),
        (DITHERED, "duration", LONG / 16_000),
        (DITHERED, "wav_lens", LONG / 16_000),
        (DITHERED, "lengths", LONG),
        (PADDED, "feat_lens", LONG // 320),
        (PADDED, "lengths", LONG * 3),  # before it was resampled
        (PADDED, "audio_len", LONG.tolist()),
        (PADDED, "ilens", LONG.float()),
        (torch.nn.functional.pad(PADDED, (0, 384)), "num_samples", LONG),
        (torch.nn.functional.pad(PADDED, (0, 384)), "n_samples", LONG.int()),
        (PADDED, "text_lengths", torch.tensor([16_000, 1, 2, 3])),
    ],
)
def test_lengths_in_any_unit(waves, name, lengths):
    found = read_batch({"audio": waves, name: lengths}, sample_rate=16_000).waveforms.lengths
    assert found.tolist() == LONG.tolist()


def test_lengths_of_something_else_are_refused():
    with pytest.raises(UnknownStructureError, match=r"batch\['length'\] is called 'length'.* 30 to 60"):
        waveforms_in_batch({"audio": SOUND, "length": torch.tensor([30, 40, 50, 60])})


def test_padding_of_another_value_than_zero_is_found():
    waves = torch.where(PADDED != 0, SOUND, torch.tensor([-0.1, 0.2, 0.3, 0.0])[:, None])
    assert waveforms_in_batch(waves).lengths.tolist() == LONG.tolist()
    waves[0] = 0.5  # constant, and no padding
    assert waveforms_in_batch(waves).lengths.tolist() == LONG.tolist()
    log_mel = LOG_MEL.clone()
    log_mel[2, 70:] = 0.3
    assert waveforms_in_batch(log_mel, Layout(1)).lengths.tolist() == FRAMES.tolist()
