"""Which leaf of a batch is the waveform or the feature sequence, with its lengths; else an error that shows the batch."""

from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from transformers import BatchFeature

from lightning_mi.inputs.batches import Waveforms, check_waveforms, read_batch, waveforms_in_batch
from lightning_mi.inputs.layout import WAVEFORMS, Layout
from lightning_mi.inputs.structure import UnknownStructureError

B, T = 3, 1000
LENGTHS = torch.tensor([1000, 600, 800])
WAVES = torch.randn(B, T) * (torch.arange(T) < LENGTHS[:, None])
MASK = torch.arange(T) < LENGTHS[:, None]
Batch = namedtuple("Batch", ["inputs", "labels"])


@dataclass
class Record:
    audio: torch.Tensor
    audio_lengths: torch.Tensor
    text: list


@pytest.mark.parametrize(
    "batch",
    [
        WAVES,
        WAVES[:, None],
        (WAVES,),
        [WAVES],
        (WAVES, torch.tensor([3, 1, 0])),
        (WAVES, LENGTHS),
        [WAVES, [0, 1, 2], ["a", "b", "c"]],
        (WAVES, LENGTHS.int(), torch.tensor([3, 1, 0])),
        Batch((WAVES, torch.randint(100, (B, 50)), LENGTHS), (torch.randint(100, (B, 50)),)),
        {"input_values": WAVES, "attention_mask": MASK.long(), "labels": torch.zeros(B, 20)},
        {"input_values": WAVES, "padding_mask": ~MASK},
        {"waveform": WAVES},
        {"waveforms": WAVES[:, None], "lengths": LENGTHS},
        {"audio": {"array": WAVES, "sampling_rate": 16000}, "id": ["a", "b", "c"]},
        {"audio": WAVES, "mel": torch.randn(B, 80, 100), "pitch": torch.randn(B, 400)},
        {"wav": WAVES, "wav_lens": LENGTHS / T},
        {"speech": WAVES, "noise": torch.randn(B, T)},
        {"clip": WAVES},
        {"Waveforms": WAVES, "other": torch.randn(B, T)},
        (WAVES, MASK),
        (WAVES, ~MASK),
        Record(WAVES, LENGTHS, ["a"] * B),
        BatchFeature({"input_values": WAVES, "attention_mask": MASK.int()}),
        [WAVES[i, : LENGTHS[i]] for i in range(B)],
        {"source": [WAVES[i, : LENGTHS[i]] for i in range(B)], "id": torch.arange(B)},
        ([WAVES[i, : LENGTHS[i]] for i in range(B)], torch.tensor([1, 0, 1])),
    ],
)
def test_waveforms_are_found_in_batches_of_any_structure(batch):
    samples, lengths, groups = waveforms_in_batch(batch)
    assert torch.equal(samples.reshape(B, T), WAVES)
    assert torch.equal(lengths, LENGTHS)
    assert groups is None


@pytest.mark.parametrize(
    ("batch", "shown"),
    [
        ((torch.randn(B, T), torch.randn(B, T)), r"found 2 in\n  batch\[0\]: Tensor of shape \(3, 1000\)"),
        ({"ids": torch.arange(5)}, r"found none in\n  batch\['ids'\]: Tensor of shape \(5,\), torch.int64"),
        (torch.randn(B, 2, T), r"batch: Tensor of shape \(3, 2, 1000\), torch.float32"),
        (torch.randn(B, T).to(torch.int16), r"torch.int16"),
        (torch.randn(B, 80, 100), r"shape \(3, 80, 100\)"),
        ({}, r"empty dict"),
        (None, r"batch: NoneType"),
        ({"a": torch.randn(B, T), "b": {"c": [torch.randn(B, T), "x"]}}, r"batch\['b'\]\['c'\]\[1\]: str"),
    ],
)
def test_what_cannot_be_told_is_shown(batch, shown):
    with pytest.raises(UnknownStructureError, match=shown) as raised:
        waveforms_in_batch(batch)
    assert "batch_to_waveforms=" in str(raised.value)
    assert isinstance(raised.value, ValueError)


def test_own_function_may_give_less_or_more():
    assert check_waveforms(WAVES, None).lengths.tolist() == LENGTHS.tolist()
    assert check_waveforms((WAVES, LENGTHS), None).lengths.tolist() == LENGTHS.tolist()
    assert check_waveforms((WAVES, None, torch.arange(B)), None).groups.tolist() == [0, 1, 2]
    assert check_waveforms(Waveforms(WAVES, LENGTHS + 500), None).lengths.tolist() == [T, T, T]


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ((torch.randn(B, 2, T),), "must give mono waveforms"),
        (("a", "b"), "got str"),
        (None, "must return a tensor of samples, or a tuple .*got NoneType"),
        ((), "got tuple"),
        ((WAVES, LENGTHS[:2]), r"`lengths` as integers of shape \(3,\).*got Tensor of shape \(2,\)"),
        ((WAVES, LENGTHS, torch.ones(B)), r"`groups` as integers"),
    ],
)
def test_own_function_that_errs_is_named(found, message):
    with pytest.raises(UnknownStructureError, match=message) as raised:
        check_waveforms(found, None)
    assert "`batch_to_waveforms`" in str(raised.value)


# ---- feature sequences

F = 6
FRAMES = torch.tensor([90, 40, 70])
MASK_OF_FRAMES = torch.arange(90) < FRAMES[:, None]
SEQUENCES = torch.randn(B, 90, F) * MASK_OF_FRAMES[..., None]
LOG_MEL = SEQUENCES.masked_fill(~MASK_OF_FRAMES[..., None], -11.5)  # padded with the floor, not with zeros
ONE_BY_ONE = [SEQUENCES[i, : FRAMES[i]] for i in range(B)]


@pytest.mark.parametrize("time_dim", [1, 2])
@pytest.mark.parametrize(
    "batch",
    [
        SEQUENCES,
        (SEQUENCES, torch.tensor([3, 1, 0])),
        (SEQUENCES, FRAMES),
        (LOG_MEL, FRAMES),
        (LOG_MEL, MASK_OF_FRAMES),
        [LOG_MEL, torch.randn(B, 90), ~MASK_OF_FRAMES],
        {"input_features": LOG_MEL, "attention_mask": MASK_OF_FRAMES.long(), "labels": torch.zeros(B, 20)},
        {"fbank": LOG_MEL, "padding_mask": ~MASK_OF_FRAMES},
        {"mel": LOG_MEL, "mel_lengths": FRAMES, "audio": torch.randn(B, 20_000)},
        {"eeg": SEQUENCES, "target": torch.randn(B, 5, 4)},
        {"clips": SEQUENCES, "subject": torch.tensor([[4], [4], [2]])},
        {"features": LOG_MEL, "lens": FRAMES / 90},
        {"audio": torch.randn(B, F, 90), "Features": SEQUENCES},
        ONE_BY_ONE,
        {"x": ONE_BY_ONE, "subject": torch.arange(B)},
        (SEQUENCES, (torch.randn(B, 90), torch.randn(B, 90))),  # pitch and energy are no list of sequences
    ],
)
def test_feature_sequences_are_found_in_batches_of_any_structure(batch, time_dim):
    def turned(node):
        if isinstance(node, dict):
            return {key: turned(value) for key, value in node.items()}
        if isinstance(node, (list, tuple)):
            return type(node)(turned(value) for value in node)
        is_sequence = node.shape[-1] == F and node.is_floating_point()
        return node.mT if time_dim == 2 and is_sequence else node

    samples, lengths, groups = waveforms_in_batch(turned(batch), Layout(time_dim))
    found = samples if time_dim == 1 else samples.mT
    assert torch.equal(found * MASK_OF_FRAMES[..., None], SEQUENCES)
    assert torch.equal(lengths, FRAMES)
    assert groups is None


@pytest.mark.parametrize(
    ("batch", "layout", "message"),
    [
        ((SEQUENCES, SEQUENCES), Layout(1), r"holds the feature sequences: expected.*\(B, T, F\), found 2"),
        (torch.randn(B, T), Layout(2), r"\(B, F, T\), found none(.|\n)*leave `time_dim` at None"),
        (SEQUENCES, Layout(), r"Feature sequences need `time_dim=`: 1 for \(B, T, F\), -1 for \(B, F, T\)"),
        (torch.randn(B, 1, F, 90), Layout(2), r"found none in\n  batch: Tensor of shape \(3, 1, 6, 90\)"),
        (SEQUENCES.long(), Layout(1), "torch.int64"),
        (
            {"features": SEQUENCES, "attention_mask": MASK_OF_FRAMES.flip(1)},
            Layout(1),
            "mask of padding(.|\n)*the feature sequences and their lengths",
        ),
    ],
)
def test_sequences_that_cannot_be_told_are_shown(batch, layout, message):
    with pytest.raises(UnknownStructureError, match=message) as raised:
        waveforms_in_batch(batch, layout)
    assert "`batch_to_waveforms=`" in str(raised.value)


def test_own_function_may_give_sequences():
    assert check_waveforms(SEQUENCES, None, Layout(1)).lengths.tolist() == FRAMES.tolist()
    assert check_waveforms((SEQUENCES.mT, FRAMES + 90), None, Layout(2)).lengths.tolist() == [90] * B
    with pytest.raises(UnknownStructureError, match=r"must give feature sequences.*\(B, T, F\), got.*\(3, 1000\)"):
        check_waveforms(WAVES, None, Layout(1))


@pytest.mark.parametrize(
    ("rows", "advice"),
    [
        ([torch.randn(2, 900), torch.randn(2, 800)], r"The rows have 2 channels: mix each, `row.mean\(0\)`"),
        ([{"audio": torch.randn(900, 2)}, {"audio": torch.randn(800, 2)}], r"mix each, `row.mean\(1\)`"),
    ],
)
def test_rows_of_several_channels_come_with_advice(rows, advice):
    with pytest.raises(UnknownStructureError, match=advice):
        read_batch(rows, WAVEFORMS, None, 16000)
