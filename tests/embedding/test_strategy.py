"""Sharded models, on two processes with gloo: torch's FSDP and FSDP2 themselves, on the host."""

from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.plugins import Precision
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torchaudio.models.wav2vec2.components import EncoderLayer

from lightning_mi import MIBoundCallback
from lightning_mi.embedding.strategy import StrategyForward
from lightning_mi.failures import Failures
from lightning_mi.inputs.batches import Waveforms
from lightning_mi.inputs.segments import SegmentSampler, parse_gaps
from tests.helpers.distributed import in_processes
from tests.helpers.library_models import hubert_pretrain
from tests.helpers.models import TinySpeechModel, loader, quiet_trainer
from tests.helpers.run_callback import PAPER
from tests.helpers.speech import SAMPLE_RATE, utterances

VALIDATION = utterances(240)
VALIDATION[1::2, 500:] = 0  # the second process has no usable utterance at all
TRAINING = utterances(24, seed=1)


class HostFSDP(FSDPStrategy):
    """Lightning asks for a GPU; torch does not, where it is told the device."""

    def _setup_model(self, model):
        return FullyShardedDataParallel(
            model, device_id=torch.device("cpu"), sharding_strategy=self.sharding_strategy, **self.kwargs
        )


class Hubert(pl.LightningModule):
    """torchaudio's HuBERT: trained to be a constant, which is enough to move every weight."""

    def __init__(self, shard=False):
        super().__init__()
        torch.manual_seed(0)
        self.model = hubert_pretrain()
        self.shard = shard

    def configure_model(self):
        if self.shard and not isinstance(self.model, torch.distributed.fsdp.FSDPModule):
            mesh = self.device_mesh["data_parallel"]
            for block in self.model.wav2vec2.encoder.transformer.layers:
                fully_shard(block, mesh=mesh)
            fully_shard(self.model.wav2vec2, mesh=mesh)

    def loss(self, batch):
        return self.model.wav2vec2(batch)[0].square().mean()

    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.loss(batch), sync_dist=True)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-2)


class Plain(TinySpeechModel):
    """``forward`` of the module itself: all of its weights belong to the outermost wrapper."""

    def __init__(self, shard=False):
        torch.manual_seed(0)
        super().__init__(dim=8)


def odd_batch(batch):
    """The second process reads a batch that the callback cannot understand."""
    if torch.distributed.get_rank() == 1:
        raise ValueError("odd file")
    return batch


STRATEGIES = {
    "fsdp": lambda: HostFSDP(auto_wrap_policy=ModuleWrapPolicy({EncoderLayer}), process_group_backend="gloo"),
    "fsdp2": lambda: ModelParallelStrategy(
        data_parallel_size=2,
        tensor_parallel_size=1,
        process_group_backend="gloo",
        save_distributed_checkpoint=False,
    ),
}
SHARED = {
    "hubert": (Hubert, {}),
    "layers": (Hubert, {"layers": ["model.wav2vec2.encoder.transformer.layers.*"]}),
    "all": (Hubert, {"layers": "all"}),
    "bad input on one": (Hubert, {"batch_to_waveforms": odd_batch}),
}
CASES = {"fsdp": SHARED | {"forward": (Plain, {})}, "fsdp2": SHARED}


class TrainingTrace(pl.Callback):
    """This process's shard of the weights after training, and every loss on the way."""

    def __init__(self):
        self.losses, self.weights = [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append(outputs["loss"].item())

    def on_train_end(self, trainer, pl_module):
        local = (p.to_local() if hasattr(p, "to_local") else p for p in pl_module.parameters())
        self.weights = [p.detach().clone() for p in local]


def trainer_of(strategy, callbacks):
    settings = {"strategy": STRATEGIES[strategy](), "devices": 2} if strategy else {}
    return quiet_trainer(callbacks=callbacks, max_epochs=2, num_sanity_val_steps=0, **settings)


def callback(**arguments):
    return MIBoundCallback(**({"num_clusters": 4, "sample_rate": SAMPLE_RATE} | PAPER | arguments))


def validate(strategy, make, arguments):
    """What this process logged, and how often it called the model."""
    model, calls = make(shard=strategy == "fsdp2"), []
    trainer = trainer_of(strategy, [callback(**arguments)])
    with pytest.MonkeyPatch.context() as patch:
        run = StrategyForward.__call__
        patch.setattr(StrategyForward, "__call__", lambda self, *args: calls.append(1) or run(self, *args))
        trainer.validate(model, loader(VALIDATION, batch_size=24), verbose=False)
    return {name: x.item() for name, x in trainer.callback_metrics.items() if "mi_bound" in name}, len(calls)


def fit(strategy, with_it):
    trace = TrainingTrace()
    trainer = trainer_of(strategy, [trace, *([callback()] if with_it else [])])
    trainer.fit(
        Hubert(shard=strategy == "fsdp2"), loader(TRAINING, batch_size=12), loader(VALIDATION, batch_size=24)
    )
    return trace.losses, trace.weights, "val/mi_bound" in trainer.callback_metrics


def everything(strategy):
    cases = {name: validate(strategy, make, arguments) for name, (make, arguments) in CASES[strategy].items()}
    return cases, fit(strategy, True), fit(strategy, False)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_sharded_models_log_what_one_process_logs_and_train_unchanged(strategy, tmp_path):
    found = in_processes(2, tmp_path, everything, strategy)
    for name, (make, arguments) in CASES[strategy].items():
        (logged, calls), (other, other_calls) = (cases[name] for cases, _, _ in found)
        assert calls == other_calls == 5, name  # one a batch, on the process without a usable utterance too
        assert logged == other
        if name == "bad input on one":
            assert not logged
            continue
        expected, _ = validate(None, make, arguments)
        assert logged.keys() == expected.keys()
        for key in expected.keys() - {"mi_bound/seconds"}:
            assert logged[key] == pytest.approx(expected[key], abs=1e-5), (name, key)
        assert logged["val/mi_bound"] > 0.01
    for _, with_it, without in found:
        assert with_it[0] == without[0]
        assert len(with_it[0]) == 2
        assert len(with_it[1]) == len(without[1]) > 0
        assert all(torch.equal(a, b) for a, b in zip(with_it[1], without[1], strict=True))
        assert with_it[2]
        assert not without[2]


def test_the_call_goes_through_the_wrapper_of_a_sharded_strategy_only():
    """A double in the place of a strategy: which of its parts are called, and with what."""
    called = []

    class Wrapper(nn.Module):
        def forward(self, x):
            called.append("wrapper")
            return module.forward(x)

    def redirect(wrapper, original, name, *args):
        called.append((wrapper, original))
        return getattr(original, name)(*args)

    module = Plain()
    for kind, through in ((FSDPStrategy, True), (DeepSpeedStrategy, True), (DDPStrategy, False)):
        double = object.__new__(type("Double", (kind,), {}))
        double._forward_redirection = redirect  # Lightning's own name of it: there is no public way to its wrapper
        double.model = Wrapper()
        trainer = SimpleNamespace(strategy=double, precision_plugin=Precision())
        called.clear()
        forward = StrategyForward(trainer, module, seed=0, segment_shape=None)
        assert forward(lambda x: x + 1, torch.ones(2)).tolist() == [2, 2]
        assert forward.in_lockstep is through
        assert called == ([(double.model, module)] if through else [])


class Answer:
    """An encoder that records what it is called with."""

    target = None

    def __init__(self, error=None):
        self.shapes, self.error = [], error

    def run(self, waveforms, forward):
        self.shapes.append(tuple(waveforms.shape))
        if self.error is not None:
            raise self.error
        return {"output": waveforms}

    def frames(self, outputs, batch_size):
        return outputs


def segments_of(x):
    return SegmentSampler(0.5, parse_gaps("near"), SAMPLE_RATE, seed=0)(
        Waveforms(x, torch.full((len(x),), x.shape[1]))
    )


def test_no_call_is_larger_than_the_batch_and_the_first_error_ends_them():
    x = utterances(6, seconds=1.5)
    segments = segments_of(x)
    forward = StrategyForward(quiet_trainer(), Plain(), seed=0, segment_shape=None)
    encoder, failures = Answer(), Failures()
    parts = list(forward.encode(encoder, segments, failures))
    assert sum(len(part.keys) for part, _ in parts) == 6
    assert all(rows * 500 <= x.numel() for rows, _ in encoder.shapes)
    assert forward.has_called
    broken = Answer(RuntimeError("out of something"))
    assert list(forward.encode(broken, segments, failures)) == []
    assert len(broken.shapes) == 1
    assert failures.reason == "RuntimeError: out of something"
    assert list(forward.encode(encoder, None, failures)) == []
