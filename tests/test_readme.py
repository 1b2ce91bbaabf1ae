"""The pages hold what they promise: snippets run, links lead somewhere, the README stays short."""

import re
import subprocess
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import lightning_mi
from lightning_mi import MIBoundCallback, mi_bound

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True
    ).stdout.split()
) or [ROOT / "README.md"]
WITH_SNIPPETS = ("README.md", "lightning_mi/README.md", "lightning_mi/ranking/README.md")
SNIPPETS = [
    pytest.param(snippet, id=f"{name}-{number}")
    for name in WITH_SNIPPETS
    for number, snippet in enumerate(re.findall(r"^```python\n(.*?)^```", (ROOT / name).read_text(), re.M | re.S))
]


class SpeechModule(pl.LightningModule):
    """Two GRUs on frames of 20 ms; it ends a fit after one epoch."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.GRU(320, 8, batch_first=True), nn.GRU(8, 8, batch_first=True)

    def forward(self, waveforms):
        return self.second(self.first(waveforms.unfold(1, 320, 320))[0])[0]

    def training_step(self, batch, batch_idx):
        return self(batch).square().mean()

    def on_train_epoch_end(self):
        self.trainer.should_stop = True

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())


class Speech(pl.LightningDataModule):
    """80 utterances of 2 s of noise."""

    def train_dataloader(self):
        return DataLoader(torch.randn(80, 32_000), 40)

    val_dataloader = train_dataloader


@pytest.fixture
def stand_ins(tmp_path, monkeypatch):
    """What the snippets take for granted."""
    monkeypatch.chdir(tmp_path)
    z, noise = torch.randn(2, 600, 4)
    callback = MIBoundCallback()
    callback.history.append(0, 100, {("encoder", "near"): mi_bound(z, z + noise, num_clusters=4)})
    torch.save(SpeechModule().state_dict(), "last.ckpt")
    return {
        "lightning_mi": lightning_mi,
        "MIBoundCallback": MIBoundCallback,
        "your_speech_module": SpeechModule(),
        "your_datamodule": Speech(),
        "MyLightningModule": SpeechModule,
        "pretrained_model": SpeechModule(),
        "my_features": lambda waveforms: waveforms.unfold(1, 320, 320).abs().mean(dim=2, keepdim=True),
        "val_dataloader": DataLoader(torch.randn(120, 16_000), 40),
        "callback": callback,
        "z_a": z,
        "z_b": z + 0.5 * noise,
        "z": z,
        "before": mi_bound(z, z + noise, num_clusters=4),
        "speaker": torch.arange(600) % 300,
        "utterance": torch.arange(600) // 2,
        "phones": torch.arange(600) % 3,
    }


def test_the_first_snippet_trains_with_early_stopping_and_a_checkpoint(stand_ins):
    exec(SNIPPETS[0].values[0], stand_ins)
    trainer = stand_ins["trainer"]
    assert "val/mi_bound" in trainer.callback_metrics
    assert Path(trainer.checkpoint_callback.best_model_path).is_file()


@pytest.mark.parametrize("snippet", SNIPPETS[1:])
def test_the_other_snippets_run(snippet, stand_ins):
    exec(snippet, stand_ins)


def anchors(page):
    """Anchors of a page's headings, as they are made where Markdown is rendered."""
    titles = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S), re.M)
    plain = [re.sub(r"\[(.*?)\]\(.*?\)", r"\1", title) for title in titles]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings(page):
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_the_readme_has_at_most_150_lines_of_120_columns():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 150
    assert max(map(len, lines)) <= 120


def test_the_version_is_the_same_everywhere():
    citation = re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.M)[1]
    project = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.M)[1]
    bibtex = re.search(r"version = \{(.*?)\}", (ROOT / "README.md").read_text())[1]
    assert {citation, project, bibtex} == {lightning_mi.__version__}
