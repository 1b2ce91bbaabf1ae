"""Runs and estimates under other defaults of torch: another dtype, another device, a device without float64."""

import lightning.pytorch as pl
import pytest
import torch

from lightning_mi import MIBoundCallback, labeled_mi_bound, mi_bound
from lightning_mi.controls.fingerprints import fingerprint
from lightning_mi.controls.input_baseline import log_mel
from lightning_mi.estimator.registry import PROBES, QUANTIZERS
from lightning_mi.estimator.shuffled_bound import null_bound
from tests.helpers.models import TinySpeechModel, loader, quiet_trainer
from tests.helpers.speech import SAMPLE_RATE, utterances

X = utterances(200)
# More than 64 dimensions, which are projected.
Z_A = torch.randn(600, 70, generator=torch.Generator().manual_seed(0))
Z_B = Z_A + torch.randn(600, 70, generator=torch.Generator().manual_seed(1))
GROUPS = torch.arange(600) // 2
FUNCTIONS = {
    **{q: lambda q=q: mi_bound(Z_A, Z_B, 8, GROUPS, quantizer=q).bound for q in QUANTIZERS},
    **{p: lambda p=p: mi_bound(Z_A, Z_B, 8, GROUPS, probe=p).bound for p in PROBES},
    "labels": lambda: labeled_mi_bound(Z_A, GROUPS % 5, GROUPS).bound,
    "null": lambda: null_bound(Z_A, Z_B, GROUPS, groups=GROUPS, num_clusters=8).bound,
    "log-mel": lambda: log_mel(X, SAMPLE_RATE).double().sum().item(),
    "fingerprints": lambda: fingerprint(X, torch.full((200,), 2000, device="cpu"), SAMPLE_RATE).sum().item(),
}


@pytest.fixture(scope="module")
def expected():
    """By name, under torch's own defaults, in the module's own state of threads: rounding depends on it."""
    return {name: function() for name, function in FUNCTIONS.items()}


@pytest.fixture(params=["float64", "bfloat16", "float16", "meta"])
def other_defaults(request):
    """Another default, of dtype or of device: tensors on `meta` have no data, so one that is made there shows."""
    if request.param == "meta":
        torch.set_default_device("meta")
    else:
        torch.set_default_dtype(getattr(torch, request.param))
    yield
    torch.set_default_device(None)
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_do_not_depend_on_torchs_defaults(name, expected, other_defaults):
    before = torch.get_default_dtype(), torch.empty(0).device
    assert FUNCTIONS[name]() == expected[name]
    assert (torch.get_default_dtype(), torch.empty(0).device) == before


class Switch(pl.Callback):
    """Changes torch's defaults before the callback behind it acts, or changes them back."""

    def __init__(self, dtype=torch.float32, device=None):
        self.dtype, self.device = dtype, device

    def switch(self, *_):
        torch.set_default_dtype(self.dtype)
        torch.set_default_device(self.device)

    on_validation_epoch_start = on_validation_batch_end = switch

    def on_validation_epoch_end(self, *_):
        torch.set_default_dtype(self.dtype)  # Lightning's own sums of what is logged cannot be on `meta`


def validate(module, *around):
    first, last = around or (Switch(), Switch())
    callback = MIBoundCallback(
        num_clusters=8,
        sample_rate=SAMPLE_RATE,
        layers=["rnn", "head"],
        gap_seconds=["near", "far"],
        labels={"loudness": lambda batch: ["loud", "quiet"] * (len(batch) // 2)},
    )
    trainer = quiet_trainer(callbacks=[first, callback, last])
    return trainer.validate(module, loader(X, batch_size=40), verbose=False)[0]


class Predicts(TinySpeechModel):
    def forward(self, x):
        return self.head(super().forward(x))

    def predict(self, x):
        return self(x)


@pytest.mark.parametrize(
    "defaults", [{"dtype": torch.float64}, {"dtype": torch.bfloat16}, {"device": "meta"}], ids=str
)
def test_a_run_logs_the_same_under_other_defaults(defaults):
    module = Predicts()
    expected = validate(module)
    try:
        logged = validate(module, Switch(**defaults), Switch())
    finally:
        Switch().switch()
    assert logged.keys() == expected.keys() >= {"val/mi_bound", "mi_bound/input", "mi_bound/null"}
    for name in {name for name in expected if "mi_bound" in name} - {"mi_bound/seconds"}:
        assert logged[name] == pytest.approx(expected[name], rel=1e-6), name
