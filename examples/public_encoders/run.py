"""Embed, probe, score and report: ``python examples/public_encoders/run.py embed search``."""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import torch

from lightning_mi.examples.public_encoders import embed as embedding
from lightning_mi.examples.public_encoders.conditions import CONDITIONS
from lightning_mi.examples.public_encoders.registry import ENCODERS, HALVES, Encoder
from lightning_mi.examples.public_encoders.report import Tap, markdown, write_csv
from lightning_mi.examples.public_encoders.scores import Scorer, settings
from lightning_mi.examples.public_encoders.truths import tap_accuracies

_PROBES = "probes"
_RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Run one stage of one half."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=("prepare", "embed", "score", "report"))
    parser.add_argument("half", choices=HALVES)
    parser.add_argument(
        "--speech", type=Path, default=Path(".cache/speech"), help="where the packages are unpacked"
    )
    parser.add_argument(
        "--cache", type=Path, default=Path("runs/public_encoders"), help="where embeddings are kept"
    )
    parser.add_argument("--only", default="", help="names that begin like this, of encoders")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start nothing after this")
    options = parser.parse_args()
    torch.set_num_threads(1)
    {"prepare": _prepare, "embed": _embed, "score": _score, "report": _report}[options.stage](options)


def _prepare(options: argparse.Namespace) -> None:
    embedding.score_speech(options.speech, options.half, options.cache)
    embedding.probe_speech(options.speech, options.cache)


def _embed(options: argparse.Namespace) -> None:
    started = time.monotonic()
    spoken = embedding.probe_speech(options.speech, options.cache)
    _, utterances = embedding.score_speech(options.speech, options.half, options.cache)
    for encoder in _of_half(options):
        wanted = [_PROBES] + [each.name for each in CONDITIONS if options.half in each.halves]
        files = {what: embedding.embedding_file(options.cache, encoder, what) for what in wanted}
        missing = {what: file for what, file in files.items() if not file.is_file()}
        if not missing:
            continue
        model = encoder.load().eval()
        by_name = {each.name: each for each in CONDITIONS}
        for what, file in missing.items():
            if time.monotonic() - started > options.seconds:
                return
            begun = time.process_time()
            if what == _PROBES:
                found = embedding.probe_embeddings(encoder, model, spoken)
            else:
                found = embedding.segment_embeddings(encoder, model, by_name[what], utterances)
            torch.save(found, file)
            print(f"{encoder.name}, {what}: {time.process_time() - begun:.0f} s", flush=True)


def _score(options: argparse.Namespace) -> None:
    spoken = embedding.probe_speech(options.speech, options.cache)
    for encoder in _of_half(options):
        file = _scored_file(options, encoder)
        if file.is_file():
            continue
        wanted = [each.name for each in CONDITIONS if options.half in each.halves]
        files = {what: embedding.embedding_file(options.cache, encoder, what) for what in (_PROBES, *wanted)}
        if not files[_PROBES].is_file() or not files[wanted[0]].is_file():
            continue
        # Scores of conditions that were not embedded are NaN, and left out of the tables.
        found = {what: torch.load(each) for what, each in files.items() if each.is_file()}
        probes = found.pop(_PROBES)
        scored = {}
        for tap in dict.fromkeys(key.rsplit("/", 1)[0] for key in probes):
            frames = torch.cat([probes[f"{tap}/{aligner}"] for aligner in spoken.times])
            score = Scorer(tap, found, frames)
            begun = time.process_time()
            scores = {name: score(each) for name, each in settings(options.half).items()} | score.baselines()
            taken = time.process_time() - begun
            scored[tap] = {"accuracies": tap_accuracies(probes, tap, spoken), "scores": scores}
            print(
                f"{encoder.name}, {tap}: scored in {taken:.0f} s, probed in "
                f"{time.process_time() - begun - taken:.0f} s",
                flush=True,
            )
        file.write_text(json.dumps(scored))


def _report(options: argparse.Namespace) -> None:
    taps = []
    for encoder in _of_half(options):
        file = _scored_file(options, encoder)
        if not file.is_file():
            print(f"{encoder.name}: not scored, left out")
            continue
        for tap, each in json.loads(file.read_text()).items():
            who = (encoder.name, tap, encoder.family_of(tap), encoder.kind)
            taps.append(Tap(*who, each["accuracies"], each["scores"]))
    names = [name for name in taps[0].scores if not any(math.isnan(each.scores[name]) for each in taps)]
    write_csv(taps, _RESULTS / f"{options.half}.csv")
    (_RESULTS / f"{options.half}.md").write_text(markdown(taps, names, f"The {options.half} half"))


def _of_half(options: argparse.Namespace) -> list[Encoder]:
    return [each for each in ENCODERS if each.half == options.half and each.name.startswith(options.only)]


def _scored_file(options: argparse.Namespace, encoder: Encoder) -> Path:
    return embedding.embedding_file(options.cache, encoder, "scores").with_suffix(".json")


if __name__ == "__main__":
    main()
