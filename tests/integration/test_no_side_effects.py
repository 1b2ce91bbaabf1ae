"""The run with the callback is the run without it: bit for bit, whatever the Trainer's settings.

The model draws random numbers from every generator in ``forward``, in eval mode too, and keeps statistics, counters
and lists: whatever a guest could leave behind, it would show.
"""

import json
import os
import random
import subprocess
import sys
from collections import Counter

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn

from lightning_mi import MIBoundCallback
from tests.helpers.models import TinySpeechModel, loader, quiet_trainer
from tests.helpers.speech import SAMPLE_RATE, utterances

TRAINING, VALIDATION = utterances(72, seed=1), utterances(40, seed=2)


class Restless(TinySpeechModel):
    """Random masks and dropout in eval mode, batch statistics, counters, lists and a generator of its own."""

    def __init__(self):
        super().__init__(dim=8)
        self.norm, self.out = nn.BatchNorm1d(8), nn.Identity()
        self.frozen = nn.Linear(8, 8).requires_grad_(False)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.calls = 0
        self.history = {"shapes": [], "nested": {"sums": []}}
        self.own = torch.Generator().manual_seed(5)

    def forward(self, x):
        z = super().forward(x)
        z = z + self.frozen(z) * torch.rand(z.shape[1], 1, generator=self.own).to(z)
        z = F.dropout(z, 0.1, training=True) * (0.5 + random.random()) * (0.5 + np.random.rand())  # noqa: NPY002
        self.steps += 1
        self.calls += 1
        self.history["shapes"].append(tuple(x.shape))
        self.history["nested"]["sums"].append(float(z.detach().float().sum()))
        return self.out(self.norm(z.flatten(0, 1)).unflatten(0, z.shape[:2]))

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        F.batch_norm(  # statistics of validation, in eval mode
            self(batch).flatten(0, 1), self.norm.running_mean, self.norm.running_var, training=True
        )
        self.log("val/loss", self.loss(batch), add_dataloader_idx=dataloader_idx > 0)


class ByHand(Restless):
    """Manual optimisation."""

    automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        loss = self.loss(batch)
        self.manual_backward(loss)
        optimizer.step()
        return loss


class Witness(pl.Callback):
    """Writes down, at every step of the run, what a guest must not change."""

    def __init__(self):
        self.seen = []

    def note(self, what, pl_module, *values):
        model = pl_module
        grads = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
        state = (
            [m.training for m in model.modules()],
            [p.requires_grad for p in model.parameters()],
            [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()],
            (torch.is_autocast_enabled("cpu"), torch.is_grad_enabled(), torch.get_default_dtype()),
            (model.calls, json.dumps(model.history), model.own.get_state()),
        )
        self.seen.append((what, values, grads, [b.clone() for b in model.buffers()], state, generators()))

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.note("train", pl_module, batch_idx)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.note("trained", pl_module, outputs["loss"].clone())

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self.note("validate", pl_module, batch_idx)

    def on_validation_end(self, trainer, pl_module):
        self.note("validated", pl_module, trainer.callback_metrics.get("val/loss", torch.tensor(-1.0)).clone())


def generators():
    numpy_state = np.random.get_state()  # noqa: NPY002
    states = [torch.get_rng_state(), random.getstate(), (numpy_state[1].copy(), numpy_state[2:])]
    if torch.cuda.is_available():
        states += torch.cuda.get_rng_state_all()
    return states


def same(a, b):
    """Equal to the last bit, NaN included, in structures of any depth."""
    if isinstance(a, torch.Tensor):
        as_bytes = [x.detach().contiguous().cpu().reshape(-1).view(torch.uint8) for x in (a, b)]
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(*as_bytes)
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


class Counts(MIBoundCallback):
    """Tells how often it had a value."""

    values = 0

    def on_validation_epoch_end(self, trainer, pl_module):
        super().on_validation_epoch_end(trainer, pl_module)
        self.values += self.arguments.log_name in trainer.callback_metrics


def loaders():
    return loader(TRAINING, batch_size=8, shuffle=True), loader(VALIDATION, batch_size=8)


def run(with_it, make=Restless, callbacks=(), wrap=None, validation=None, arguments=None, **settings):
    pl.seed_everything(3, verbose=False)
    random.seed(3)
    model, witness = make(), Witness()
    guests = [Counts(**{"num_clusters": 4, "sample_rate": SAMPLE_RATE} | (arguments or {}))] if with_it else []
    made = [make_callback() for make_callback in callbacks]
    trainer = quiet_trainer(**({"max_epochs": 3} | settings), callbacks=[*guests, *made, witness])
    train, val = loaders()
    trainer.fit(model if wrap is None else wrap(model), train, val if validation is None else validation())
    optimizers = [optimizer.state_dict() for optimizer in trainer.optimizers]
    return (model.state_dict(), optimizers, witness.seen, generators()), guests, trainer


def assert_invisible(**settings):
    without, _, _ = run(False, **settings)
    with_it, (guest,), trainer = run(True, **settings)
    for name, a, b in zip(("weights", "optimiser", "steps", "generators"), with_it, without, strict=True):
        assert same(a, b), name
    kinds = Counter(what for what, *_ in without[2])
    assert kinds["train"]
    assert kinds["validate"]
    assert guest.values > 0
    return trainer


MATRIX = {
    "plain": {},
    "bf16-mixed": {"precision": "bf16-mixed"},
    "bf16-true": {"precision": "bf16-true"},
    "64-true": {"precision": "64-true"},
    "no_grad instead of inference mode": {"inference_mode": False},
    "bf16-mixed, no_grad": {"precision": "bf16-mixed", "inference_mode": False},
    "accumulation": {"accumulate_grad_batches": 4},
    "accumulation, validation inside of it": {"accumulate_grad_batches": 4, "val_check_interval": 3},
    "gradient clipping": {"gradient_clip_val": 0.1},
    "val_check_interval as a share": {"val_check_interval": 0.34},
    "val_check_interval in batches": {"val_check_interval": 4},
    "val_check_interval across epochs": {"val_check_interval": 7, "check_val_every_n_epoch": None},
    "check_val_every_n_epoch": {"check_val_every_n_epoch": 2, "max_epochs": 4},
    "no sanity check": {"num_sanity_val_steps": 0},
    "a whole sanity check": {"num_sanity_val_steps": -1},
    "limit_val_batches as a number": {"limit_val_batches": 2},
    "limit_val_batches as a share": {"limit_val_batches": 0.6},
    "fast_dev_run": {"fast_dev_run": 2},
    "several loaders": {"validation": lambda: [loader(VALIDATION[:24]), loader(VALIDATION[24:], batch_size=5)]},
    "shuffled validation": {"validation": lambda: loader(VALIDATION, batch_size=8, shuffle=True)},
    "reloaded loaders": {"reload_dataloaders_every_n_epochs": 1},
    "weight averaging": {"callbacks": [lambda: EMAWeightAveraging(decay=0.8)]},
    "compiled": {"wrap": lambda model: torch.compile(model, backend="aot_eager")},
    "manual optimisation": {"make": ByHand},
    "deterministic": {"deterministic": True},
    "anomaly detection": {"detect_anomaly": True, "limit_train_batches": 1, "max_epochs": 1},
    "pictures in TensorBoard": {"logger": lambda folder: TensorBoardLogger(folder)},
    "a progress bar": {"enable_progress_bar": True, "callbacks": [TQDMProgressBar]},
    "every second epoch": {"arguments": {"every_n_epochs": 2}},
    "feature sequences": {
        "arguments": {
            "time_dim": 1,
            "sample_rate": SAMPLE_RATE / 50,
            "batch_to_waveforms": lambda x: x.unfold(1, 50, 50),
        }
    },
    "views": {"arguments": {"preset": "content", "segment_seconds": 0.2}},
    "layers, gaps and pairs": {
        "arguments": {
            "layers": ["rnn", "out"],
            "gap_seconds": [0.1, "near"],
            "segment_seconds": 0.3,
            "pairs_per_utterance": 3,
            "max_pairs": 50,
        }
    },
}


@pytest.fixture
def _nondeterministic_again():
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("_nondeterministic_again")
@pytest.mark.parametrize("cell", MATRIX)
def test_with_and_without(cell, tmp_path):
    settings = dict(MATRIX[cell])
    if "logger" in settings:
        settings["logger"] = settings["logger"](tmp_path)
    assert_invisible(**settings)


def test_checkpoints_are_the_same_but_for_the_state_of_the_callback(tmp_path):
    saved = []
    for name in ("a", "b"):
        saves = {
            "callbacks": [lambda name=name: ModelCheckpoint(tmp_path / name, save_top_k=-1, monitor="val/loss")]
        }
        run(name == "a", enable_checkpointing=True, **saves)
        saved.append({path.name: path for path in (tmp_path / name).iterdir()})
    with_it, without = saved
    assert with_it.keys() == without.keys()
    for name, path in with_it.items():
        a, b = (torch.load(file, weights_only=False) for file in (path, without[name]))
        (own,) = (state for key, state in a["callbacks"].items() if key.startswith("Counts"))
        assert set(own) == {"settings", "run"}
        assert path.stat().st_size - without[name].stat().st_size < 100 * 1024
        for part in ("state_dict", "optimizer_states", "lr_schedulers", "loops", "epoch", "global_step"):
            assert same(a[part], b[part]), part


def test_what_was_compiled_is_neither_used_nor_added_to():
    torch._dynamo.reset()
    model = Restless()
    compiled, calls = [], []

    def backend(graph, inputs):
        compiled.append([tuple(x.shape) for x in inputs if isinstance(x, torch.Tensor)])
        return graph.forward

    forward = TinySpeechModel.forward

    def encode(self, x):
        calls.append(torch.compiler.is_compiling())
        return forward(self, x)

    model.encode = torch.compile(lambda x: encode(model, x), backend=backend)
    one = MIBoundCallback(num_clusters=4, sample_rate=SAMPLE_RATE, embed="encode", pairs_per_utterance=1)
    quiet_trainer(callbacks=[one]).validate(model, loader(VALIDATION, batch_size=8), verbose=False)
    assert len(calls) == 7  # two of them the trial call
    assert not compiled
    model.encode(VALIDATION[:2])
    assert compiled


PROGRAM = """
import hashlib, random, sys, warnings
import lightning.pytorch as pl, torch
warnings.filterwarnings("ignore")
torch.set_num_threads(1)
from tests.helpers.speech import SAMPLE_RATE, utterances
from tests.helpers.models import TinySpeechModel, loader, quiet_trainer
callbacks = []
if sys.argv[1] == "with":
    from lightning_mi import MIBoundCallback
    callbacks = [MIBoundCallback(num_clusters=4, sample_rate=SAMPLE_RATE)]
pl.seed_everything(0, verbose=False)
model = TinySpeechModel(dim=64)
trainer = quiet_trainer(callbacks=callbacks, max_epochs=2)
trainer.fit(model, loader(utterances(64), shuffle=True), loader(utterances(64, seed=1)))
digest = hashlib.sha256()
for tensor in [*model.state_dict().values(), torch.get_rng_state(), trainer.callback_metrics["train/loss"]]:
    digest.update(tensor.numpy().tobytes())
print("mi_bound" in str(trainer.callback_metrics), "lightning_mi" in sys.modules, digest.hexdigest())
"""


def test_a_run_that_never_imports_the_package_is_the_same():
    folders = [os.path.dirname(__file__), os.path.dirname(os.path.dirname(__file__))]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(folders)}
    said = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM, argument], env=environment, capture_output=True, text=True, check=True
        ).stdout.split()[-3:]
        for argument in ("with", "without")
    ]
    assert said[0][:2] == ["True", "True"]
    assert said[1][:2] == ["False", "False"]
    assert said[0][2] == said[1][2]
