"""Audio fingerprints: copies in another gain, codec or cut share many hashes, other utterances next to none."""

import math

import pytest
import torch
from scipy.signal import butter, sosfilt

from lightning_mi.controls.fingerprints import FINGERPRINT_SIZE, NO_HASH, fingerprint
from tests.helpers.speech import SAMPLE_RATE, chords, copies


def speech_like(count=6, seconds=3.0, rate=16000, seed=0):
    """Noise whose bands swell and fade a few times a second."""
    generator = torch.Generator().manual_seed(seed)
    bands = [80 * 2**octave for octave in range(6)]
    steps = round(8 * seconds)
    x = torch.zeros(count, round(seconds * rate))
    for low in bands:
        band = torch.randn(x.shape, generator=generator)
        band = torch.from_numpy(
            sosfilt(butter(1, (low, 2 * low), "bandpass", fs=rate, output="sos"), band)
        ).float()
        level = 20 ** torch.rand(count, 1, steps, generator=generator)
        x += band * torch.nn.functional.interpolate(level, x.shape[1], mode="linear")[:, 0]
    return 0.05 * x / x.std(dim=1, keepdim=True)


def mu_law(x):
    """Telephony's eight bits, and back (ITU-T G.711 without its segments)."""
    companded = x.clamp(-1, 1).sign() * torch.log1p(255 * x.abs().clamp(max=1)) / math.log(256)
    companded = ((companded + 1) * 127.5).round() / 127.5 - 1
    return companded.sign() * (256 ** companded.abs() - 1) / 255


def shared(a, b):
    """How many numbers each two rows share, by comparing them one by one."""
    found = torch.zeros(len(a), len(b), dtype=torch.int64)
    for i, mine in enumerate(a.tolist()):
        for j, theirs in enumerate(b.tolist()):
            found[i, j] = len(set(mine) & set(theirs) - {NO_HASH})
    return found


def of(x, rate=16000):
    return fingerprint(x, torch.full((len(x),), x.shape[1]), rate)


@pytest.mark.parametrize(
    ("change", "least"),
    [
        (lambda x: 0.3 * x, 60),
        (lambda x: copies(x, noise_db=-40), 20),
        (lambda x: copies(x, noise_db=-30), 8),
        (lambda x: x[:, 2003:], 12),
        (lambda x: x[:, 11003:-9001], 8),
        (lambda x: mu_law(x), 8),
    ],
    ids=["gain", "-40 dB noise", "-30 dB noise", "cut", "cut at both ends", "mu-law"],
)
def test_copies_share_hashes_and_others_do_not(change, least):
    x = speech_like()
    found = shared(of(x), of(change(x)))
    assert int(found.diag().min()) >= least
    assert int((found - found.diag().diag()).max()) <= 2


def test_hashes_depend_neither_on_padding_nor_on_the_batch():
    x = speech_like(4)
    lengths = torch.tensor([48000, 30000, 16000, 8900])
    padded = x.clone()
    for row, length in zip(padded, lengths, strict=True):
        row[length:] = torch.randn(48000 - length)
    together = fingerprint(padded, lengths, 16000)
    assert together.shape == (4, FINGERPRINT_SIZE)
    for row, length, found in zip(x, lengths, together, strict=True):
        assert torch.equal(fingerprint(row[None, :length], length[None], 16000)[0], found)
    assert int((together[3] == NO_HASH).sum()) == FINGERPRINT_SIZE  # 0.56 s are too short
    assert bool(((together != NO_HASH).sum(dim=1) >= torch.tensor([64, 40, 20, 0])).all())


@pytest.mark.parametrize("rate", [100, SAMPLE_RATE, 8000, 44100])
def test_copies_are_recognised_at_any_sampling_rate(rate):
    x = torch.randn(3, 2 * rate, generator=torch.Generator().manual_seed(0))
    found = shared(of(x, rate), of(0.5 * x, rate))
    assert int((found - found.diag().diag()).max()) <= 2
    assert bool((found.diag() > 20).all()) == (rate > 100)


def test_chords_share_none_and_their_copies_many():
    x = chords(20)
    found = shared(of(x, SAMPLE_RATE), of(copies(x), SAMPLE_RATE))
    assert int(found.diag().min()) >= 8
    assert int((found - found.diag().diag()).max()) <= 2


def test_silence_infinity_and_nan_have_no_hashes():
    loud = torch.full((1, 32000), float("inf"))
    silent = torch.zeros(1, 32000)
    assert bool((of(torch.cat([loud, silent, torch.full_like(silent, torch.nan)])) == NO_HASH).all())
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        assert int((of(speech_like(1).to(dtype)) != NO_HASH).sum()) > 20
    assert fingerprint(torch.zeros(0, 100), torch.zeros(0, dtype=torch.int64), 16000).shape == (
        0,
        FINGERPRINT_SIZE,
    )
