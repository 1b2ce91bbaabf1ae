"""The reference page, the YAML, the signature, the docstring and the record of arguments agree."""

import dataclasses
import importlib.util
import inspect
import re
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn
from torch.utils.data import DataLoader

from lightning_mi import MIBoundCallback
from lightning_mi.arguments import Arguments
from lightning_mi.reporting.metric_names import METRICS

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "lightning_mi/README.md"
DEFAULTS = {name: each.default for name, each in inspect.signature(MIBoundCallback).parameters.items()}


def program():
    spec = importlib.util.spec_from_file_location("reference", ROOT / ".ci/reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows(table):
    """Cells of a Markdown table of the page, without code quotes."""
    block = PAGE.read_text().split(f"<!-- {table}: written by .ci/reference.py -->")[1].split("<!-- end of")[0]
    lines = [line.strip("| ") for line in block.strip().splitlines()[2:]]
    return [
        [cell.strip().strip("`").replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)] for line in lines
    ]


def test_the_page_is_what_the_code_says():
    assert program().main(["--check"]) == 0


def test_an_outdated_page_fails_the_check(tmp_path, monkeypatch, capsys):
    reference = program()
    page = tmp_path / "README.md"
    page.write_text(PAGE.read_text().replace("| `max_pairs` | `4096` |", "| `max_pairs` | `1` |"))
    monkeypatch.setattr(reference, "PAGE", page)
    monkeypatch.setattr(reference, "ROOT", tmp_path)
    monkeypatch.setattr(reference, "TABLES", {"arguments": reference.argument_table})
    assert reference.main(["--check"]) == 1
    assert "make reference" in capsys.readouterr().err
    assert reference.main([]) == 0
    assert page.read_text() == PAGE.read_text()


def test_the_page_has_every_argument_in_order_with_its_default():
    found = rows("arguments")
    assert [row[0] for row in found] == list(DEFAULTS)
    for name, default, _, meaning in found:
        assert default.replace('"', "'") == repr(DEFAULTS[name]), name
        assert len(meaning) > 10, name


def test_the_page_has_every_module_of_the_package():
    folder = ROOT / "lightning_mi"
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*.py")}
    rooms = {path.parent.relative_to(folder).as_posix() + "/" for path in folder.glob("*/__init__.py")}
    named = {re.sub(r"\[.*\]\((.*)\)|\*\*(.*)\*\*", r"\1\2", row[0]) for row in rows("modules")}
    assert named == {name for name in files if not name.endswith("/__init__.py")} | rooms


def test_the_docstring_and_the_record_have_every_argument_in_order():
    section = inspect.getdoc(MIBoundCallback).split("\nArgs:\n")[1].split("\nAttributes:\n")[0]
    assert re.findall(r"^    (\w+):", section, flags=re.M) == list(DEFAULTS)
    record = {field.name: field.default for field in dataclasses.fields(Arguments)}
    assert list(record.items()) == list(DEFAULTS.items())


def test_the_yaml_differs_from_the_defaults_in_one_value():
    loaded = OmegaConf.load(ROOT / "configs/callbacks/mi_bound.yaml")
    config = OmegaConf.to_container(loaded, resolve=True)[
        "mi_bound"
    ]  # without `data`, whose sampling rate it takes
    assert list(config) == ["_target_", *DEFAULTS]
    differing = {name: config[name] for name in DEFAULTS if config[name] != DEFAULTS[name]}
    assert differing == {"num_clusters": 32}


class Recurrent(pl.LightningModule):
    """A GRU on frames of 100 samples."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.GRU(100, 8, batch_first=True), nn.GRU(8, 8, batch_first=True)

    def forward(self, waveforms):
        return self.second(self.first(waveforms.unfold(1, 100, 100))[0])[0]

    def training_step(self, batch, batch_idx):
        return self(batch["waveforms"]).square().mean()

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())


@pytest.fixture(scope="module")
def logged():
    """Names that a run logs with several distances, layers and labels."""
    pytest.importorskip("torchaudio")
    torch.manual_seed(0)
    utterances = [{"waveforms": torch.randn(32_000), "speaker": i % 2} for i in range(80)]
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        max_epochs=2,
        callbacks=[
            MIBoundCallback(
                num_clusters=2,
                gap_seconds=["near", "far", "same"],
                layers=["first", "second"],
                labels={"who": "speaker"},
            )
        ],
    )
    trainer.fit(Recurrent(), DataLoader(utterances, 40), DataLoader(utterances, 40))
    return set(trainer.callback_metrics)


def patterns():
    """For each row of the page, the names that it stands for."""
    return {row[0]: re.compile(re.sub(r"<\w+>", "[^/]+", row[0]) + "$") for row in rows("logged names")}


def test_every_name_that_a_run_logs_has_one_row(logged):
    for name in logged:
        assert sum(bool(each.match(name)) for each in patterns().values()) == 1, name


def test_every_row_is_logged_by_a_run(logged):
    for row, pattern in patterns().items():
        assert any(map(pattern.match, logged)), row


def test_the_page_has_every_row_of_the_table_of_metrics():
    assert [row[0] for row in rows("logged names")] == [metric.name for metric in METRICS]
