"""Speakers that batches name, however a collate function left them; and what is none."""

from collections import namedtuple

import pytest
import torch

from lightning_mi.inputs.batches import Waveforms, read_batch

WAVES = torch.randn(3, 800)
SPEAKERS = torch.tensor([7, 7, 9])
Batch = namedtuple("Batch", ["wav", "spk_id"])
ROWS = [{"audio": wave, "speaker_id": who} for wave, who in zip(WAVES, (7, 7, 9), strict=True)]


@pytest.mark.parametrize(
    "batch",
    [
        *({"wav": WAVES, name: SPEAKERS} for name in ("speaker", "speaker_id", "speaker_ids", "spk", "SpeakerID")),
        {"wav": WAVES, "speaker_id": SPEAKERS[:, None].int()},
        {"wav": WAVES, "speaker_id": SPEAKERS.numpy()},
        {"wav": WAVES, "speaker_id": SPEAKERS.tolist()},
        {"wav": WAVES, "meta": {"speaker_id": SPEAKERS}},
        Batch(WAVES, SPEAKERS),
        ROWS,
    ],
)
def test_named_integers_are_the_speakers(batch):
    assert read_batch(batch).speakers.tolist() == [7, 7, 9]


def test_strings_are_the_same_speakers_in_every_batch():
    first = read_batch({"wav": WAVES, "client_id": ["anna", "anna", "boris"]}).speakers
    second = read_batch({"wav": WAVES, "client_id": ["boris", "carla", "anna"]}).speakers
    assert first[0] == first[1] == second[2] != first[2] == second[0]
    assert first.dtype == torch.int64


@pytest.mark.parametrize(
    "batch",
    [
        (WAVES, 16000, ["text"] * 3, SPEAKERS),  # LibriSpeech's order, without names
        {"wav": WAVES, "labels": SPEAKERS},
        {"wav": WAVES, "num_speakers": SPEAKERS},
        {"wav": WAVES, "speaker": torch.randn(3)},
        {"wav": WAVES, "speaker": torch.randn(3, 192)},  # embeddings of speakers
        {"wav": WAVES, "speaker": SPEAKERS[:2]},
        {"wav": WAVES, "speaker": [None, 7, 9]},
    ],
)
def test_what_is_not_named_a_speaker_or_is_none_is_not_guessed(batch):
    assert read_batch(batch).speakers is None


def test_the_users_groups_take_precedence():
    batch = {"wav": WAVES, "speaker": SPEAKERS}
    groups = torch.arange(3)
    found = read_batch(batch, batch_to_waveforms=lambda batch: Waveforms(batch["wav"], None, groups))
    assert found.speakers is None
    assert found.waveforms.groups is groups
    assert read_batch(batch, batch_to_waveforms=lambda batch: batch["wav"]).speakers.tolist() == [7, 7, 9]
