"""120 validation epochs of random models, batches, settings and faults: what a lab may bring, and what may go wrong.

Every run is made twice, with and without the callback, and must train the same weights. What was tried is counted, so
that a test that has gone dry is seen: run with ``-rP`` to read the counts.
"""

import math
import random
from collections import Counter

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers.logger import Logger
from torch import nn
from torch.utils.data import DataLoader

from lightning_mi import MIBoundCallback
from tests.helpers.models import quiet_trainer
from tests.helpers.run_callback import PAPER, callback_warnings

RATE, EPOCHS, RUNS = 1000, 2, 60


def raises(z):
    raise RuntimeError("out of something")


def put(rows, value):
    def damage(z):
        z = z.clone()
        z[rows] = value
        return z

    return damage


FAULTS = {
    "none": lambda z: z,
    "zero": torch.zeros_like,
    "constant": lambda z: torch.full_like(z, -7.0),
    "rank one": lambda z: z.sum(-1, keepdim=True).expand_as(z),
    "exploding": lambda z: z * 1e6,
    "vanishing": lambda z: z * 1e-6,
    "denormal": lambda z: z * 1e-38,
    "NaN in some": put(slice(None, None, 5), float("nan")),
    "inf in one": put(0, float("inf")),
    "NaN in all": lambda z: z * float("nan"),
    "outlier": put(-1, 1e8),
    "raises": raises,
    "other number of rows": lambda z: z[1:],
    "other width from batch to batch": lambda z: z[..., : 1 + len(z) % 2],
    "integers": lambda z: z.nan_to_num().long(),
}
UNUSABLE = {"NaN in all", "raises", "other number of rows", "integers"}
OUTPUTS = {
    "tensor": lambda z: z,
    "vector": lambda z: z.mean(dim=1),
    "tuple with lengths": lambda z: (z, torch.full((len(z),), z.shape[1])),
    "layers": lambda z: [z - 1, z],
    "mapping": lambda z: {"last_hidden_state": z, "logits": z[..., :1]},
}
BATCHES = {
    "tensor": lambda x, n: torch.stack(x),
    "with a channel": lambda x, n: torch.stack(x)[:, None],
    "tuple with lengths": lambda x, n: (torch.stack(x), torch.tensor(n)),
    "mapping with a mask": lambda x, n: {
        "input_values": torch.stack(x),
        "attention_mask": (torch.arange(len(x[0])) < torch.tensor(n)[:, None]).long(),
        "labels": torch.zeros(len(x), dtype=torch.long),
    },
    "nested, with shares": lambda x, n: {
        "meta": ["a"],
        "speech": {"wav": torch.stack(x), "wav_lens": shares(x, n)},
    },
    "list of waveforms": lambda x, n: [row[: max(count, 200)] for row, count in zip(x, n, strict=True)],
}
UTTERANCES = {
    "whole": lambda row, number: (row, len(row)),
    "of many lengths": lambda row, number: (row, len(row) * (1 + number % 4) // 4),
    "some silent": lambda row, number: (row * (number % 3 > 0), len(row)),
    "some NaN": lambda row, number: (row + (float("nan") if number % 7 == 3 else 0), len(row)),
    "too short": lambda row, number: (row, 20),
    "all silent": lambda row, number: (0 * row, len(row)),
    "all the same": lambda row, number: (torch.sin(torch.arange(len(row)) / 3.0), len(row)),
}


def shares(x, n):
    return torch.tensor(n) / len(x[0])


class Drawn(pl.LightningModule):
    """Embeds frames by one matrix; the fault of the epoch and the structure of the output come behind."""

    def __init__(self, case):
        super().__init__()
        self.case = case
        self.weight = nn.Linear(20, case["dim"])
        self.norm = nn.BatchNorm1d(case["dim"])
        self.calls = 0

    def features(self, x):
        frames = x.reshape(len(x), -1).unfold(1, 20, 20).to(self.weight.weight.dtype)
        return self.weight(frames).abs()

    def forward(self, x):
        self.calls += 1
        z = self.features(x) + 0.1 * torch.rand(1).to(x)
        z = FAULTS[self.case["faults"][min(self.current_epoch, EPOCHS - 1)]](z)
        return OUTPUTS[self.case["output"]](z)

    def training_step(self, batch, batch_idx):
        return self.norm(self.features(batch).flatten(0, 1)).square().mean() + self.weight.weight.square().sum()

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def draw(seed):
    """A case."""
    chance = random.Random(seed)

    def mostly(usual, others, share=0.85):
        return chance.choice(usual if chance.random() < share else others)

    gaps = ["near", "far", 0.1, "same", "later"]
    case = {
        "seed": seed,
        "dim": chance.choice([1, 2, 8, 33]),
        "faults": [mostly(["none"], sorted(FAULTS), share=0.5) for _ in range(EPOCHS)],
        "output": chance.choice(sorted(OUTPUTS)),
        "batch": chance.choice(sorted(BATCHES)),
        "batch_size": chance.choice([1, 5, 16, 40]),
        "utterances": mostly(["whole", "of many lengths"], sorted(UTTERANCES), share=0.6),
        "count": mostly([120, 160], [1, 3, 9, 30]),
        "seconds": mostly([1.0, 2.0], [0.25]),
        "callback": {
            "segment_seconds": mostly([0.1, 0.2], [0.005, 0.02, 0.7]),
            "gap_seconds": mostly(gaps, [chance.sample(gaps, number) for number in (1, 2, 3, 5)]),
            "pairs_per_utterance": mostly([1], [3, 9]),
            "num_clusters": mostly([4, 7, 16], [1, 2, 200]),
            "max_pairs": mostly([90, 4096], [1, 6, 30]),
            "pooling": chance.choice(["mean", "boundary", "center"]),
            "speed": mostly([1.0], [1.3, 3]),
            "channels": mostly(["shared"], ["independent"], share=0.85),
            "layers": mostly([None], ["weight", ["weight"]]),
            "every_n_epochs": mostly([1], [2]),
            "seed": mostly([0], [-3, 2**62]),
        },
        "trainer": {
            "precision": chance.choice(["32-true", "bf16-mixed", "bf16-true", "64-true"]),
            "inference_mode": chance.random() < 0.5,
            "accumulate_grad_batches": chance.choice([1, 2]),
        },
    }
    arguments = case["callback"]
    if arguments["speed"] == 1 and arguments["gap_seconds"] != 0.1 and "same" in arguments["gap_seconds"]:
        arguments["channels"] = "independent"  # equal views are refused
    return case


def validation_batches(case):
    generator = torch.Generator().manual_seed(case["seed"])
    length = round(case["seconds"] * RATE)
    pitch = torch.rand(case["count"], 1, generator=generator)
    x = (0.2 + pitch) * torch.sin(pitch * torch.arange(length)) + 0.1 * torch.randn(
        case["count"], length, generator=generator
    )
    make, collate = UTTERANCES[case["utterances"]], BATCHES[case["batch"]]
    rows = [make(row, number) for number, row in enumerate(x)]
    rows = [(torch.where(torch.arange(length) < count, row, 0.0), count) for row, count in rows]
    return DataLoader(
        rows, batch_size=case["batch_size"], collate_fn=lambda items: collate(*map(list, zip(*items, strict=True)))
    )


class Written(Logger):
    """What each validation epoch has logged."""

    name, version = "written", 0

    def __init__(self):
        super().__init__()
        self.epochs = [{} for _ in range(EPOCHS)]

    def log_hyperparams(self, *args):
        pass

    def log_metrics(self, metrics, step=None):
        if "val/mi_bound" in metrics:
            self.epochs[metrics.pop("epoch")] = metrics


def run(case, with_it):
    torch.manual_seed(case["seed"])
    model, written = Drawn(case), Written()
    one = MIBoundCallback(sample_rate=RATE, **PAPER | case["callback"])
    trainer = quiet_trainer(
        callbacks=[one] if with_it else [],
        logger=written,
        max_epochs=EPOCHS,
        num_sanity_val_steps=0,
        **case["trainer"],
    )
    training = DataLoader(
        torch.randn(24, 200, generator=torch.Generator().manual_seed(1)), batch_size=8, shuffle=True
    )
    with callback_warnings() as said:
        trainer.fit(model, training, validation_batches(case))
    assert trainer.current_epoch == EPOCHS
    return (model.state_dict(), model.calls, torch.get_rng_state()), written.epochs, said


def check(case, logged, said):
    """What must be true of one epoch's values."""
    assert all(math.isfinite(value) for value in logged.values()), logged
    bound, stderr = logged["val/mi_bound"], logged["mi_bound/stderr"]
    entropy, cross_entropy = logged["mi_bound/entropy"], logged["mi_bound/cross_entropy"]
    assert 0 <= bound <= logged["mi_bound/ceiling"] + 1e-6
    assert bound == max(0.0, entropy - cross_entropy) or abs(bound - (entropy - cross_entropy)) < 1e-5
    assert logged["mi_bound/ceiling"] <= math.log(case["callback"]["num_clusters"]) + 1e-6
    assert stderr >= 0
    assert 4 <= logged["mi_bound/pairs"] <= case["callback"]["max_pairs"]
    assert logged["mi_bound/active_clusters"] <= case["callback"]["num_clusters"]
    if logged["mi_bound/skipped"]:
        assert any("leaves out" in message for message in said)


def test_drawn_runs_train_the_same_weights_and_log_nothing_wrong():
    counts = Counter()

    for seed in range(RUNS):
        case = draw(seed)
        with_it, epochs, said = run(case, with_it=True)
        without, _, _ = run(case, with_it=False)
        assert all(torch.equal(with_it[0][name], without[0][name]) for name in without[0])
        assert with_it[1] == without[1]
        assert torch.equal(with_it[2], without[2])
        assert len(said) <= 5  # clusters, skipped utterances, random numbers, noise, no value: once each
        assert len({message.split(")")[1].split()[0] for message in said}) == len(said)
        for epoch, logged in enumerate(epochs):
            counts["validation epochs"] += 1
            due = epoch % case["callback"]["every_n_epochs"] == 0
            fault = case["faults"][epoch]
            counts[f"fault: {fault}"] += due
            assert due or not logged
            if logged:
                check(case, logged, said)
                counts["with a value"] += 1
                counts["with a value above 0"] += logged["val/mi_bound"] > 0
                assert fault not in UNUSABLE or case["callback"]["layers"] is not None
            elif due:
                counts["without a value"] += 1
                (reason,) = (message for message in said if "logs no value" in message)
                assert "num_clusters" not in reason  # few pairs lower it
                counts[f"reason: {' '.join(reason.split('logs no value: ')[1].split()[:3])}"] += 1
        for name in ("output", "batch", "utterances"):
            counts[f"{name}: {case[name]}"] += 1
        counts[f"precision: {case['trainer']['precision']}"] += 1

    print("\n".join(f"{count:5d} {what}" for what, count in sorted(counts.items())))
    assert counts["validation epochs"] == RUNS * EPOCHS
    assert counts["with a value above 0"] >= 20
    for kind, names in (("fault", FAULTS), ("output", OUTPUTS), ("batch", BATCHES), ("utterances", UTTERANCES)):
        assert all(counts[f"{kind}: {name}"] for name in names), counts
