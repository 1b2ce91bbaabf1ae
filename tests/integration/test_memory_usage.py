"""What the callback holds, and that it gives it back: every allocation of torch on the host, as its profiler sees it."""

import gc

import lightning.pytorch as pl
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from lightning_mi import MIBoundCallback
from tests.helpers.models import TinySpeechModel, loader, quiet_trainer
from tests.helpers.speech import SAMPLE_RATE, utterances

DIM, BATCH, UTTERANCES, MAX_PAIRS = 64, 16, 400, 200
SEGMENT = round(0.5 * SAMPLE_RATE)
PAIR = 2 * DIM * 4  # bytes of one pair's embeddings


class Marks(pl.Callback):
    """Marks the end of the last batch, and the end of the epoch, in the profile."""

    def on_validation_epoch_start(self, trainer, pl_module):
        self.batches = torch.profiler.record_function("batches").__enter__()

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx == UTTERANCES // BATCH - 1:
            self.batches.__exit__(None, None, None)


def validate(with_it, **arguments):
    """Bytes, over what was allocated before: at the peak while batches come in, at the peak of it all, and left."""
    x = utterances(UTTERANCES, seconds=6.0)
    model = TinySpeechModel(dim=DIM)
    settings = {"num_clusters": 8, "max_pairs": MAX_PAIRS, "sample_rate": SAMPLE_RATE, "input_baseline": False}
    settings["null_control"] = False
    arguments = settings | arguments
    one = MIBoundCallback(**arguments)
    trainer = quiet_trainer(callbacks=[*([one] if with_it else []), Marks()])
    trainer.validate(model, loader(x, batch_size=BATCH), verbose=False)  # what is made once, is made now
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        trainer.validate(model, loader(x, batch_size=BATCH), verbose=False)
        gc.collect()
    events = profiled.profiler.kineto_results.events()
    (batches,) = (event for event in events if event.name() == "batches")
    allocated = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    total = peak = peak_of_batches = 0
    for time, nbytes in allocated:
        total += nbytes
        peak = max(peak, total)
        if batches.start_ns() <= time <= batches.start_ns() + batches.duration_ns():
            peak_of_batches = max(peak_of_batches, total)
    return peak_of_batches, peak, total


@pytest.mark.parametrize(
    ("arguments", "held", "segments"),
    [
        ({}, MAX_PAIRS, 2 * BATCH),
        # 6 bands at this sample rate: 12 numbers beside 64, and their spectrograms.
        ({"input_baseline": True}, 1.25 * MAX_PAIRS, 8 * BATCH),
        # 66 numbers of 8 bytes, and the spectrograms of the whole batch.
        ({"null_control": True}, 2.1 * MAX_PAIRS, 60 * BATCH),
        # Up to four pairs of each utterance are cut before 50 are chosen.
        ({"max_pairs": 50}, 50, 2 * 4 * BATCH),
        # The segments of one call together are no longer than the batch, here 16 times 6 s.
        ({"pairs_per_utterance": 8, "gap_seconds": 0.0, "channels": "shared"}, MAX_PAIRS, 12 * BATCH),
        # And with a hash of 8 bytes for every sample of noise.
        ({"pairs_per_utterance": 8, "gap_seconds": 0.0}, MAX_PAIRS, 24 * BATCH),
        # Three embeddings a pair, and the positions at which a segment of up to four pairs is read.
        ({"preset": "content"}, 1.5 * MAX_PAIRS, 40 * BATCH),
    ],
)
def test_what_is_held_is_bounded_and_given_back(arguments, held, segments):
    own_peak, own_total_peak, own_left = validate(False)
    peak, total_peak, left = validate(True, **arguments)
    # Embeddings, half as many again while their room grows, and the segments of one batch with their positions.
    bound = 1.5 * held * PAIR + segments * SEGMENT * (4 + 4 + 8)
    print(f"batches: {peak - own_peak} of {bound}; in all: {total_peak - own_total_peak}; left: {left - own_left}")
    assert own_peak > 0
    assert peak - own_peak <= bound
    # What is logged, and 32 bytes of each utterance's score, in `estimates`.
    assert abs(left - own_left) < 2048 + 32 * UTTERANCES


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_peak_on_a_gpu_is_what_the_docstring_says():
    def peak_and_left(with_it):
        one = MIBoundCallback(num_clusters=8, max_pairs=MAX_PAIRS, sample_rate=SAMPLE_RATE)
        trainer = quiet_trainer(callbacks=[one] if with_it else [], accelerator="cuda")
        model, x = TinySpeechModel(dim=DIM), utterances(UTTERANCES, seconds=6.0)
        trainer.validate(model, loader(x, batch_size=BATCH), verbose=False)
        torch.cuda.reset_peak_memory_stats()
        trainer.validate(model, loader(x, batch_size=BATCH), verbose=False)
        return torch.cuda.max_memory_allocated(), torch.cuda.memory_allocated()

    (own_peak, own_left), (peak, left) = peak_and_left(False), peak_and_left(True)
    print(f"peak: {peak - own_peak}; left: {left - own_left}")
    assert peak - own_peak <= 1.5 * MAX_PAIRS * PAIR + 2 * BATCH * SEGMENT * 16
    assert left - own_left < 1 << 14


class Grows(pl.Callback):
    def __init__(self):
        self.tensors, self.objects = [], []

    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.current_epoch % 20 == 19:
            gc.collect()
            objects = gc.get_objects()
            self.objects.append(len(objects))
            self.tensors.append(sum(x.numel() * x.element_size() for x in objects if type(x) is torch.Tensor))


def test_no_growth_over_many_validation_epochs():
    grows = Grows()
    one = MIBoundCallback(num_clusters=4, sample_rate=SAMPLE_RATE, gap_seconds=["near", "far"])
    trainer = quiet_trainer(callbacks=[one, grows], max_epochs=100)
    trainer.fit(TinySpeechModel(dim=8), loader(utterances(8)), loader(utterances(40), batch_size=20))
    assert trainer.callback_metrics["mi_bound/pairs"] == 80  # "far" leaves room for two of each
    assert len(one.history) == 100
    assert len(grows.objects) == 5
    assert max(grows.tensors[1:]) == min(grows.tensors[1:])
    # A validation adds its own few numbers to the history, which is bounded, and nothing else.
    assert max(grows.objects[1:]) - min(grows.objects[1:]) < 60 * 10
