"""Embed, probe, score and report: ``python examples/public_encoders/run.py embed search``."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from lightning_mi.examples.public_encoders import embed as embedding
from lightning_mi.examples.public_encoders.conditions import CONDITIONS
from lightning_mi.examples.public_encoders.registry import ENCODERS, HALVES

_PROBES = "probes"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=("prepare", "embed", "score", "report"))
    parser.add_argument("half", choices=HALVES)
    parser.add_argument("--speech", type=Path, default=Path(".cache/speech"), help="where the packages are unpacked")
    parser.add_argument("--cache", type=Path, default=Path("runs/public_encoders"), help="where embeddings are kept")
    parser.add_argument("--only", default="", help="names that begin like this, of encoders")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start nothing after this")
    options = parser.parse_args()
    torch.set_num_threads(1)
    {"prepare": _prepare, "embed": _embed}[options.stage](options)


def _prepare(options: argparse.Namespace) -> None:
    embedding.score_speech(options.speech, options.half, options.cache)
    embedding.probe_speech(options.speech, options.cache)


def _embed(options: argparse.Namespace) -> None:
    started = time.monotonic()
    spoken = embedding.probe_speech(options.speech, options.cache)
    _, utterances = embedding.score_speech(options.speech, options.half, options.cache)
    for encoder in ENCODERS:
        if encoder.half != options.half or not encoder.name.startswith(options.only):
            continue
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


if __name__ == "__main__":
    main()
