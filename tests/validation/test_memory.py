"""What the embeddings will take is known after the first batch."""

import pytest
import torch

from lightning_mi.validation import epoch as epoch_module
from lightning_mi.validation.memory import check_memory, free_memory
from tests.helpers.run_callback import run_callback
from tests.helpers.speech import utterances

GIB = 2**30


def test_more_than_half_of_what_is_free_is_refused_with_a_number_that_fits():
    layers = {f"layer{number}": torch.zeros(2, 10, 1000) for number in range(100)}
    check_memory(layers, 2, 4096, free=7 * GIB)  # 3.05 GiB
    check_memory(layers, 2, 4096, free=None)
    with pytest.raises(ValueError, match=r"100 layer\(s\) of together 100000 features, take 3.1 GiB") as raised:
        check_memory(layers, 2, 4096, free=2 * GIB)
    fitting = int(str(raised.value).split("Pass `max_pairs=")[1].split("`")[0])
    check_memory(layers, 2, fitting, free=2 * GIB)


def test_the_host_tells_what_is_free():
    free = free_memory(torch.device("cpu"))
    assert free is not None
    assert free > 2**20


def test_it_is_an_error_before_training_and_a_warning_after(monkeypatch):
    monkeypatch.setattr(epoch_module, "free_memory", lambda device: 1000)
    with pytest.raises(ValueError, match="more than half of"):
        run_callback(data=utterances(40), fn="fit", num_clusters=4)
    run = run_callback(data=utterances(40), fn="fit", num_clusters=4, trainer={"num_sanity_val_steps": 0})
    assert "more than half of" in run.callback.no_value_reason
