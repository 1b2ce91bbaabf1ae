"""Speech synthesised by eSpeak NG: no download, known phones and voices, several languages."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm  # type: ignore[import-untyped,unused-ignore]

from lightning_mi.examples.data import espeak_process
from lightning_mi.examples.data.audio_files import Int16Array, one_thread, resample, to_int16
from lightning_mi.examples.data.corpus_cache import cache_folder, is_cached, read_cache, write_cache
from lightning_mi.examples.data.espeak_process import Request
from lightning_mi.examples.data.paths import from_start
from lightning_mi.examples.data.sentences import LANGUAGES, sentence
from lightning_mi.examples.data.speech import SpeechDataModule
from lightning_mi.examples.data.utterances import Recording, Utterance

# Those of eSpeak NG's variants that sound like people, and unlike each other.
VOICES = (
    *("m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5"),
    *("Alex", "Alicia", "Andrea", "Annie", "Denis", "Michael", "Nguyen"),
    *("belinda", "boris", "shelby", "steph"),
)
"""The voice variants of the default corpus."""

# eSpeak NG looks a language up by the name of its file, which is not always the language tag.
_FILES = {"fr-fr": "fr"}

_RATES = (145, 190)  # words a minute
_PITCHES = (35, 65)  # eSpeak NG's scale of 0 to 99, around the voice's own pitch
_MAX_DRAWS = 1000


class EspeakDataModule(SpeechDataModule):
    """Sentences in several languages and voices, spoken by eSpeak NG and kept on disk.

    ``prepare_data`` synthesises the corpus if it is not on disk yet (some ten seconds for the default
    one) and ``setup`` reads it. Every sentence occurs once, so no text is on both sides of the split.
    Languages and voices take turns; each voice has a rate and a pitch of its own, with a small change from
    utterance to utterance. Utterance ``i`` does not depend on the size of the corpus. ``voice`` in the
    records is the variant, which speaks all languages. ``phones`` are in IPA, without stress marks.

    Args:
        utterances: Number of utterances in all.
        languages: Languages out of ``sentences.LANGUAGES``.
        voices: Voice variants of eSpeak NG, such as ``"f3"``.
        root: Folder for the cache, which holds one folder for each choice of settings.
        sample_rate: Sample rate of the waveforms in Hz.
        batch_size: Utterances per batch.
        crop_seconds: Length of the training crops in seconds.
        val_fraction: Expected part of the utterances that goes to validation.
        num_workers: Worker processes of each data loader.
        seed: Settles the sentences, the voices' rates and pitches, and the split.

    Raises:
        ValueError: An argument is out of its range, or names a language without sentences.
    """

    def __init__(
        self,
        utterances: int = 1920,
        languages: Sequence[str] = LANGUAGES,
        voices: Sequence[str] = VOICES,
        root: str | Path = ".cache/espeak",
        sample_rate: int = 16000,
        batch_size: int = 32,
        crop_seconds: float = 2.0,
        val_fraction: float = 0.375,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(sample_rate, batch_size, crop_seconds, val_fraction, num_workers, seed)
        if utterances < 1:
            raise ValueError(f"utterances={utterances}: expected at least 1")
        for name, values in (("languages", languages), ("voices", voices)):
            if isinstance(values, str) or not values:
                raise ValueError(f"{name}={values!r}: expected a list of at least one name")
        for language in languages:
            if language not in LANGUAGES:
                raise ValueError(f"languages: no sentences for {language!r}, only for {', '.join(LANGUAGES)}")
        self.utterances = utterances
        self.languages = tuple(languages)
        self.voices = tuple(voices)
        # Made absolute now, because a launcher may change the working directory later.
        self.root = from_start(root)

    @property
    def folder(self) -> Path:
        """The folder that holds, or will hold, this corpus."""
        requests = [asdict(request) for _, request in self.plan()]
        return cache_folder(self.root, {"sample_rate": self.sample_rate, "requests": requests})

    def prepare_data(self) -> None:
        """Synthesise the corpus, unless it is on disk.

        Raises:
            ImportError: torchaudio or espeakng-loader is not installed.
            ValueError: eSpeak NG has no variant of a name in ``voices``, or ``utterances`` asks for more
                different sentences than there are.
            RuntimeError: eSpeak NG fails.
        """
        folder = self.folder
        if is_cached(folder):
            return
        # eSpeak NG itself would speak an unknown variant in its standard voice.
        if unknown := sorted(set(self.voices) - espeak_process.variants()):
            raise ValueError(f"voices: eSpeak NG has no variant {', '.join(unknown)}")
        about: dict[str, Any] = {
            "sample_rate": self.sample_rate,
            "seed": self.seed,
            "languages": self.languages,
            "voices": self.voices,
        }
        with one_thread():
            write_cache(folder, self._synthesise(), about)

    def load_recordings(self) -> Sequence[Recording]:
        """Read the corpus from disk.

        Raises:
            FileNotFoundError: It has not been synthesised.
        """
        folder = self.folder
        if not is_cached(folder):
            raise FileNotFoundError(
                f"no eSpeak corpus of these settings under root={str(self.root)!r}: call prepare_data() "
                "before setup() (a Trainer does)"
            )
        return read_cache(folder)

    def plan(self) -> list[tuple[Utterance, Request]]:
        """Every utterance of the corpus and how it is spoken."""
        plan = []
        spoken: set[str] = set()
        for i in range(self.utterances):
            language = self.languages[i % len(self.languages)]
            voice = self.voices[i // len(self.languages) % len(self.voices)]
            own = random.Random(f"{self.seed}/{voice}")
            rng = random.Random(f"{self.seed}/{i}/{language}/{voice}")
            text = sentence(language, rng)
            for _ in range(_MAX_DRAWS):
                if text not in spoken:
                    break
                text = sentence(language, rng)
            else:
                raise ValueError(f"utterances={self.utterances}: only {i} different sentences were found")
            spoken.add(text)
            request = Request(
                text=text,
                voice=f"{_FILES.get(language, language)}+{voice}",
                rate=own.randint(*_RATES) + rng.randint(-8, 8),
                pitch=own.randint(*_PITCHES) + rng.randint(-4, 4),
            )
            name = f"{language}/{voice}/{hashlib.sha256(text.encode()).hexdigest()[:12]}"
            plan.append((Utterance(name, language, voice, text), request))
        return plan

    def _synthesise(self) -> Iterator[tuple[Utterance, Int16Array]]:
        plan = self.plan()
        spoken = espeak_process.speak([request for _, request in plan])
        progress = tqdm(plan, desc="eSpeak NG", unit="utterance", leave=False, disable=None)
        for (planned, _), speech in zip(progress, spoken, strict=True):
            waveform = torch.from_numpy(speech.samples / 32768).float()
            samples = to_int16(resample(waveform, speech.sample_rate, self.sample_rate))
            duration = len(samples) / self.sample_rate
            phones = tuple((name, start, min(end, duration)) for name, start, end in speech.phones)
            yield Utterance(planned.id, planned.language, planned.voice, planned.text, phones), samples
