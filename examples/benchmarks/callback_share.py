"""Overhead of the callback in a validation epoch, without its forward passes: seconds and peak memory.

    python -m lightning_mi.examples.benchmarks.callback_share --device cuda    # HuBERT base on utterances of 10 s
    python -m lightning_mi.examples.benchmarks.callback_share --small          # two blocks, on any machine

Validation epochs with and without the callback are run in turns in one process. The callback's share is what it
logs as `mi_bound/seconds` minus the seconds of its calls of the model, divided by the seconds of the epoch. The
controls, which are measured once a run, are switched off.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import lightning.pytorch as pl
import torch
import torchaudio
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lightning_mi import MIBoundCallback

SAMPLE_RATE = 16_000


class Encoder(pl.LightningModule):
    """Torchaudio's HuBERT; validation is one forward pass. Its calls for the callback are timed."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        if blocks < 12:
            from lightning_mi.examples.models import HuBERTModule  # which needs faiss

            self.model = HuBERTModule(num_layers=blocks).model.wav2vec2
        else:
            self.model = torchaudio.models.hubert_base()

    def embed(self, waveforms: Tensor) -> Tensor:
        """What the callback calls, timed."""
        start = clock(self.device)
        frames: Tensor = self.model(waveforms)[0]
        # Not in an attribute, since the callback restores those.
        CALLBACK_SECONDS.append(clock(self.device) - start)
        return frames

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """A forward pass, and a loss that needs it."""
        self.log("val/loss", self.model(batch[0])[0].square().mean())


CALLBACK_SECONDS: list[float] = []


def clock(device: torch.device) -> float:
    """Seconds, when the device has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def utterances(num: int, seconds: float) -> Tensor:
    """Noise of a colour for each utterance, which its segments share: ``(num, T)`` float32."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(num, round(seconds * SAMPLE_RATE), generator=generator)
    keep = torch.rand(num, 1, generator=generator)
    return x[:, 1:] * (1 - keep) + keep * (x[:, 1:] + x[:, :-1])


class Epoch:
    """One way to validate, again and again."""

    def __init__(self, callbacks: list[pl.Callback], module: Encoder, data: Any, device: str) -> None:
        self.trainer = pl.Trainer(
            accelerator="gpu" if device == "cuda" else device,
            devices=1,
            callbacks=callbacks,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
        )
        self.module, self.data = module, data

    def run(self) -> tuple[float, float, float, float]:
        """Seconds of the epoch, of the callback, of its forward passes, and peak memory of a GPU in bytes."""
        CALLBACK_SECONDS.clear()
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        start = clock(device)
        (logged,) = self.trainer.validate(self.module, self.data, verbose=False)
        seconds = clock(device) - start
        peak = float(torch.cuda.max_memory_allocated()) if device.type == "cuda" else 0.0
        return seconds, logged.get("mi_bound/seconds", 0.0), sum(CALLBACK_SECONDS), peak


def main() -> None:
    """Read the arguments and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--small", action="store_true", help="two narrow blocks, utterances of 2 s")
    parser.add_argument("--utterances", type=int, default=2048)
    parser.add_argument("--seconds", type=float, help="of an utterance (default: 10, with --small 2)")
    parser.add_argument("--pairs-per-utterance", type=int, help="default: the callback's")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_float32_matmul_precision("high")
    module = Encoder(2 if arguments.small else 12)
    x = utterances(arguments.utterances, arguments.seconds or (2.0 if arguments.small else 10.0))
    data = DataLoader(TensorDataset(x), batch_size=arguments.batch_size)
    callback = MIBoundCallback(
        embed="embed",
        num_clusters=128,
        pairs_per_utterance=arguments.pairs_per_utterance,
        input_baseline=False,
        null_control=False,
    )
    ways = {
        "without": Epoch([], module, data, arguments.device),
        "with": Epoch([callback], module, data, arguments.device),
    }
    for way in ways.values():
        way.run()
    runs: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in ways}
    for _ in range(arguments.rounds):
        for name, way in ways.items():
            runs[name].append(way.run())
    medians = {
        name: [statistics.median(column) for column in zip(*each, strict=True)] for name, each in runs.items()
    }
    (plain, _, _, plain_peak), (seconds, own, forward, peak) = medians["without"], medians["with"]
    print(f"{arguments.device}, {arguments.utterances} utterances, {'2' if arguments.small else '12'} blocks")
    print(f"epoch without the callback {plain:.2f} s, with it {seconds:.2f} s")
    print(f"the callback {own:.3f} s, of which its forward passes {forward:.3f} s")
    print(
        f"everything but the forward passes: {own - forward:.3f} s, {(own - forward) / seconds:.2%} of the epoch"
    )
    if peak:
        print(f"peak memory of the device {plain_peak / 2**20:.0f} MiB without, {peak / 2**20:.0f} MiB with")


if __name__ == "__main__":
    main()
