"""How good are the phone labels of recorded speech? Where the truth is known, and where it is not.

    python -m lightning_mi.examples.benchmarks.alignment                            # two minutes on one core
    python -m lightning_mi.examples.benchmarks.alignment --packages .cache/asterisk /

First, eSpeak NG speaks sentences in one voice, which are heard through a telephone (8 kHz, noise, tilt), and are
aligned to another voice of another tempo: printed are the share of the time with the right phone, and how far off
a phone's start is, without moving the reference to the speaker (0 rounds) and with it.

With `--packages` (see `examples/data/asterisk.py`) also what can be said of recorded speech without a truth: how
well a linear discriminant on single frames of cepstra tells the labels of other prompts, where the labels are as
found, late or early, and where those of an utterance are permuted. Right labels are told best where they are.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence

import numpy as np
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from lightning_mi.examples.data.alignment import Sound, align
from lightning_mi.examples.data.audio_files import resample
from lightning_mi.examples.data.espeak_process import Request, Spoken, speak
from lightning_mi.examples.data.pauses import FRAME_SECONDS
from lightning_mi.examples.data.sentences import sentence
from lightning_mi.examples.data.transcribed import VOICES
from lightning_mi.examples.data.utterances import Phone, Recording
from lightning_mi.examples.model_selection.channel import Channel
from lightning_mi.examples.model_selection.speech import TRUTH
from lightning_mi.examples.model_selection.truth import PHONE
from lightning_mi.examples.model_selection.zoo import corpora
from lightning_mi.ranking.hydra_config import compose_config

SPEAKERS = {"en-us": "en-us+f2", "fr-fr": "fr+Andy", "es": "es-419+linda", "it": "it+michel"}
CHANNEL = Channel(gain_db=(-6.0, 6.0), tilt_db=(-3.0, 3.0), snr_db=(20.0, 35.0))
SHIFTS = (-0.08, -0.04, -0.02, 0.0, 0.02, 0.04, 0.08)  # seconds


def known_truth(count: int) -> None:
    """Print a table of the languages."""
    print("| language | rounds | right phone | start off by, median | 90 % |")
    print("|---|---|---|---|---|")
    for language, voice in SPEAKERS.items():
        rng = random.Random(0)
        texts = [sentence(language, rng) for _ in range(count)]
        said = list(speak([Request(text, voice, rng.randint(130, 200), rng.randint(35, 65)) for text in texts]))
        reference = list(speak([Request(text, VOICES[language], 160, 50) for text in texts]))
        sounds = [Sound.of(CHANNEL.apply(telephone(each), text)) for each, text in zip(said, texts, strict=True)]
        for rounds in (0, 3):
            found = align(sounds, reference, rounds)
            pairs = [
                pair
                for each, alignment in zip(said, found, strict=True)
                for pair in zip(each.phones, alignment.phones, strict=True)
            ]
            right = sum(max(0.0, min(a[2], b[2]) - max(a[1], b[1])) for a, b in pairs)
            off = np.array([abs(a[1] - b[1]) for a, b in pairs])
            share = right / sum(a[2] - a[1] for a, _ in pairs)
            print(
                f"| {language} | {rounds} | {share:.1%} | {1e3 * np.median(off):.1f} ms | "
                f"{1e3 * np.quantile(off, 0.9):.0f} ms |"
            )


def telephone(spoken: Spoken) -> torch.Tensor:
    """At 16 kHz, but with nothing above 4 kHz."""
    waveform = torch.from_numpy(spoken.samples / 32768).float()
    return resample(resample(waveform, spoken.sample_rate, 8000), 8000, 16000)


def recorded(packages: Sequence[str]) -> None:
    """Print how well labels are told, by how late they are taken."""
    folders = ",".join(packages)
    speech = corpora(compose_config("model_selection", ["speech=recorded", f"speech.packages=[{folders}]"]))
    every = speech.load(TRUTH)
    recordings = [each for each in every if each.utterance.phones]
    sides = speech.halves[PHONE]([each.utterance for each in recordings])
    print(f"\n{len(recordings)} of {len(every)} utterances have phones")
    print("| labels late by | told right |\n|---|---|")
    sounds = [Sound.of(each.read()) for each in recordings]
    for shift in SHIFTS:
        print(f"| {1e3 * shift:+.0f} ms | {told(recordings, sounds, sides, shift):.1%} |")
    print(f"| permuted | {told(recordings, sounds, sides, 0.0, permuted=True):.1%} |")


def told(
    recordings: Sequence[Recording],
    sounds: Sequence[Sound],
    sides: np.ndarray,
    shift: float,
    permuted: bool = False,
) -> float:
    """Accuracy on each half of a linear discriminant that is fitted to the other."""
    frames, labels, of = [], [], []
    rng = np.random.default_rng(0)
    for recording, sound, side in zip(recordings, sounds, sides, strict=True):
        phones: Sequence[Phone] = recording.utterance.phones
        names = np.array([symbol for symbol, _, _ in phones])
        starts, ends = np.array([phone[1:] for phone in phones]).T
        times = (sound.frames + 0.5) * FRAME_SECONDS + shift
        which = np.searchsorted(starts, times, side="right") - 1
        inside = (which >= 0) & (times < ends[which])
        frames.append(sound.cepstra.numpy()[inside])
        labels.append((rng.permutation(names) if permuted else names)[which[inside]])
        of.append(np.full(inside.sum(), side))
    x, y, half = np.concatenate(frames), np.concatenate(labels), np.concatenate(of)
    probe = LinearDiscriminantAnalysis()
    right = sum(
        (probe.fit(x[half == a], y[half == a]).predict(x[half != a]) == y[half != a]).sum() for a in (0, 1)
    )
    return float(right / len(y))


def main() -> None:
    """Print what the module's docstring says."""
    parser = argparse.ArgumentParser(description="How good are the phone labels of recorded speech?")
    parser.add_argument("--sentences", type=int, default=100, help="of each language")
    parser.add_argument("--packages", nargs="*", default=[], help="folders that packages are unpacked in")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    known_truth(arguments.sentences)
    if arguments.packages:
        recorded(arguments.packages)


if __name__ == "__main__":
    main()
