"""Run every client: the callback's bound beside the same by hand, and training with and without the callback.

python -m lightning_mi.examples.clients.run             # a table on standard output
python -m lightning_mi.examples.clients.run --write     # and into README.md beside this file, over the same rows
python -m lightning_mi.examples.clients.run --only transformers wav2vec2
"""

from __future__ import annotations

import argparse
import importlib
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_mi import MIBoundCallback, MIEstimate, Waveforms, mi_bound
from lightning_mi.embedding.pooling import pool
from lightning_mi.examples.clients.client import REGISTRY, SAMPLE_RATE, Client, Entry, padded

MODULES = ("torch_clients", "torchaudio_clients", "transformers_clients", "other_clients", "nemo_clients")
UTTERANCES, CLUSTERS = 96, 4
_TOLERANCE = 1e-4  # in nats; the order of the rows differs
_START, _END = "<!-- table -->", "<!-- end of the table -->"


@dataclass(frozen=True)
class Result:
    """What came of one client.

    Attributes:
        entry: The client.
        needs: Arguments that the callback was given.
        value: The callback's bound in nats, or the error's text.
        by_hand: The same by hand; ``None`` if an error was expected.
        is_right: Whether both are equal, and their entropies, or the error is the expected one.
        is_unchanged: Whether the weights are the same to the last bit after training with the callback.
    """

    entry: Entry
    needs: str
    value: float | str
    by_hand: float | None
    is_right: bool
    is_unchanged: bool


def voices(number: int = UTTERANCES, seconds: tuple[float, float] = (1.05, 1.3)) -> Iterator[Tensor]:
    """Harmonic tones, each of a pitch and a timbre of its own, which two segments of it share."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(number):
        length = seconds[0] + (seconds[1] - seconds[0]) * torch.rand(1, generator=generator).item()
        t = torch.arange(int(length * SAMPLE_RATE)) / SAMPLE_RATE
        pitch, harmonics = 100 * 4 ** torch.rand(1, generator=generator).item(), torch.arange(1, 9)[:, None]
        weights = torch.randn(8, 1, generator=generator).exp() / harmonics
        phases = 6.28 * torch.rand(8, 1, generator=generator)
        x = (weights * torch.sin(6.2832 * pitch * harmonics * t + phases)).sum(0)
        yield 0.1 * x / x.std() + 0.005 * torch.randn(len(t), generator=generator)


def made(entry: Entry) -> Client:
    """The client, with the same weights each time."""
    torch.manual_seed(0)
    return entry.make()


def fit(client: Client, with_callback: bool) -> tuple[MIBoundCallback | None, str | None]:
    """Train for two steps and validate before and after; what went wrong, if it did."""
    rows = list(voices())
    if client.features is not None:
        rows = [client.features(row) for row in rows]
    callback = None
    if with_callback:
        arguments = {"num_clusters": CLUSTERS, "input_baseline": False, "null_control": False} | client.arguments
        callback = MIBoundCallback(plot_every_n_epochs=0, **arguments)
    loader: DataLoader[object] = DataLoader(rows, batch_size=32, collate_fn=client.collate or padded)  # type: ignore[arg-type]
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        limit_train_batches=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[] if callback is None else [callback],
    )
    pl.seed_everything(1, verbose=False)  # transformers' masks are numpy's
    try:
        trainer.fit(client.module, loader, loader)
    except Exception as error:
        return callback, f"{type(error).__name__}: {error}"
    return callback, None if callback is None else callback.no_value_reason


def by_hand(client: Client, callback: MIBoundCallback) -> MIEstimate:
    """The estimate without the callback: its segments, the manual's embeddings, and the pure function."""
    assert client.by_hand is not None
    rows = list(voices())
    if client.features is not None:
        rows = [client.features(row) for row in rows]
    samples, lengths = padded(rows)
    if callback.arguments.time_dim in (2, -1):
        samples = samples.mT
    segments = callback.sampler(Waveforms(samples, lengths))
    client.module.eval()
    with torch.no_grad():
        z = client.by_hand(segments.samples.flatten(0, 1)).unflatten(0, segments.samples.shape[:2])
    order = segments.keys.argsort()  # as the callback's
    pooled = pool(z, callback.arguments.pooling)[order]
    a = callback.arguments
    return mi_bound(
        pooled[:, 0],
        pooled[:, 1],
        CLUSTERS,
        seed=a.seed,
        groups=segments.groups[order],
        quantizer=a.quantizer,
        probe=a.probe,
    )


def run(entry: Entry) -> Result:
    """The client's value, that by hand, and whether training is unchanged."""
    with _quiet():
        client, other = made(entry), made(entry)
        callback, error = fit(client, with_callback=True)
        _, own_error = fit(other, with_callback=False)
        assert callback is not None
        assert own_error is None, own_error
        needs = ", ".join(f"{name}={_shown(value)}" for name, value in client.arguments.items())
        if client.error is not None:
            is_right = error is not None and client.error in error
            return Result(entry, needs, error or "no error", None, is_right, True)
        weights = zip(client.module.state_dict().values(), other.module.state_dict().values(), strict=True)
        is_unchanged = all(torch.equal(a, b) for a, b in weights)
        if error is not None:
            return Result(entry, needs, error, None, False, is_unchanged)
        expected = by_hand(client, callback)  # the validation came behind the training: with the final weights
        (estimate,) = list(callback.estimates.values())[:1]
        pairs = [
            (estimate.bound, expected.bound),
            (estimate.entropy, expected.entropy),
            (estimate.cross_entropy, expected.cross_entropy),  # a bound of 0 would tell little
        ]
        is_right = all(abs(a - b) < _TOLERANCE for a, b in pairs)
        return Result(entry, needs, estimate.bound, expected.bound, is_right, is_unchanged)


def library_version(name: str) -> str:
    """Version of the installed package; nothing if it is none."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def table(results: Sequence[Result]) -> str:
    """Rows in Markdown."""
    lines = ["| library | model | batch | needed | value | by hand | training |", "|---|---|---|---|---|---|---|"]
    for each in results:
        value = f"{each.value:.4f}" if isinstance(each.value, float) else f"error: {_first_words(each.value)}"
        hand = "" if each.by_hand is None else f"{each.by_hand:.4f}"
        right = "" if each.is_right else " **wrong**"
        training = "same" if each.is_unchanged else "**changed**"
        needs = f"`{each.needs}`" if each.needs else ""
        library = f"{each.entry.library} {library_version(each.entry.library)}".strip()
        cells = library, each.entry.name, each.entry.batch, needs, f"{value}{right}", hand, training
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def write(results: Sequence[Result], path: Path) -> None:
    """Put the results into the table of a page; rows of other clients stay, since not all fit one environment."""
    before, rest = path.read_text().split(_START)
    old, after = rest.split(_END)
    head, rows = table(results).splitlines()[:2], {_key(row): row for row in old.splitlines()[3:] if row}
    rows |= {_key(row): row for row in table(results).splitlines()[2:]}
    path.write_text("\n".join([f"{before}{_START}", "", *head, *rows.values(), "", f"{_END}{after}"]))


def _key(row: str) -> tuple[str, ...]:
    library, *names = (cell.strip() for cell in row.split("|")[1:4])
    return library.split()[0], *names


def registered(words: Sequence[str] = ()) -> list[Entry]:
    """The clients whose library is there, and whose names hold one of the words."""
    for name in MODULES:
        try:
            importlib.import_module(f"lightning_mi.examples.clients.{name}")
        except ImportError as error:
            print(f"{name}: left out, {error}")
    return [
        entry
        for entry in REGISTRY
        if not words or any(word.lower() in f"{entry.library} {entry.name}".lower() for word in words)
    ]


def main() -> int:
    """Run the clients; the exit status is 1 if one of them is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=(), metavar="WORD", help="clients whose names hold a word")
    parser.add_argument("--write", action="store_true", help="write the table into README.md")
    options = parser.parse_args()
    results = []
    for entry in registered(options.only):
        result = run(entry)
        results.append(result)
        print(table([result]).splitlines()[-1], flush=True)
    right = sum(result.is_right and result.is_unchanged for result in results)
    print(f"{right} of {len(results)} are right")
    if options.write:
        write(results, Path(__file__).parent / "README.md")
    return int(right < len(results))


def _shown(value: object) -> str:
    return f"<{value.__name__}>" if callable(value) and hasattr(value, "__name__") else repr(value)


def _first_words(text: str) -> str:
    return re.sub(r"\s+", " ", text)[:90].replace("|", "/") + " ..."


@contextmanager
def _quiet() -> Iterator[None]:
    logging.getLogger(rank_zero.__name__).setLevel(logging.ERROR)
    for name in ("lightning.pytorch", "transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


if __name__ == "__main__":
    raise SystemExit(main())
