"""The programs, whole: the small zoo of synthesised speech, and one of recorded speech."""

import json
import random
from pathlib import Path

import pytest
import torch

pytest.importorskip("torchaudio")
pytest.importorskip("sklearn")
pytest.importorskip("espeakng_loader")
pytest.importorskip("soundfile")

import scipy.stats

from lightning_mi.examples.data.sentences import sentence
from lightning_mi.examples.model_selection.analysis.table import read
from lightning_mi.examples.model_selection.corpora.base import PHONE, SPEAKER
from lightning_mi.examples.model_selection.scores.conditions import LONG, SHARED
from lightning_mi.examples.model_selection.zoo import runs, trained
from tests.helpers.asterisk_packages import lay_out
from tests.helpers.model_selection import FOLDER, composed, run_program


@pytest.mark.parametrize("name", ["train", "score", "score_layers", "report"])
def test_programs_are_a_page(name):
    assert len((FOLDER / f"{name}.py").read_text().splitlines()) <= 60


def test_an_unknown_part_of_the_report_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"report.parts: got \['layer'\], expected some of zoo, settings, layers"):
        run_program("report", composed("zoo=small", f"folder={tmp_path}", "report.parts=[layer]"))


@pytest.mark.parametrize(("name", "first"), [("score", "train"), ("score_layers", "train"), ("report", "score")])
def test_a_program_names_the_one_that_comes_first(tmp_path, name, first):
    with pytest.raises(FileNotFoundError, match=rf"run {first}\.py"):
        run_program(name, composed("zoo=small", f"folder={tmp_path}"))


@pytest.fixture(scope="module")
def overrides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo")
    return [
        "zoo=small",
        f"folder={folder / 'zoo'}",
        f"speech.root={folder / 'cache'}",
        "speech.utterances={train: 160, score: 200, downstream: 200}",
        "report.bootstraps=100",
        "report.splits=20",
    ]


@pytest.fixture(scope="module")
def config(overrides):
    """The small zoo, trained and scored; a run is continued, and the others are left alone."""
    config = composed(*overrides, "steps=[5,20]")
    run_program("train", config)
    every = list(trained(config))
    assert len(every) == sum(len(run.steps) for run in runs(config)) == 15
    before = {each.name: each.run.checkpoint(each.step).stat().st_mtime for each in every}
    config = composed(*overrides, "steps=[5,20,30]", "only=apc*")
    run_program("train", config)
    after = list(trained(config))
    assert len(after) == 17
    for each in after:
        made = each.run.checkpoint(each.step).stat().st_mtime
        assert made == before.get(each.name, made)
    run_program("score", config)
    return config


@pytest.fixture(scope="module")
def folder(config):
    run_program("report", config)
    return Path(config.folder)


@pytest.mark.slow
def test_the_report_on_the_small_zoo(config, folder, overrides):
    table = (folder / "report/zoo.md").read_text()
    assert "17 checkpoints of 9 runs" in table
    for part in ("Phone accuracy", "Speaker accuracy", "RankMe", "any baseline", "validation loss"):
        assert part in table
    assert (folder / "report/model_selection.png").stat().st_size > 10_000
    assert len((folder / "report/checkpoints.csv").read_text().splitlines()) == 18
    run_program("report", composed(*overrides, "report.chosen_in=[${folder}]", "report.name=again"))
    assert "chosen, mi_bound" in (folder / "again/zoo.md").read_text()
    made = read(folder / "report/checkpoints.csv")
    rho = scipy.stats.spearmanr(made.scores[:, made.names.index("mi_bound()")], made.accuracy[PHONE]).statistic
    assert (
        f"| nothing: independent channels, 0.5 s, near, 32 canonical clusters | {rho:+.2f}, "
        in (folder / "report/settings.md").read_text()
    )


@pytest.mark.slow
def test_layers_and_clusters_of_the_small_zoo(config, folder, overrides):
    run_program("score_layers", config)
    run_program("report", composed(*overrides, "steps=[5,20,30]", "report.parts=[layers,clusters]"))
    assert "| 128 | " in (folder / "report/clusters.md").read_text()
    assert "Layers of 17 checkpoints" in (folder / "report/layers.md").read_text()
    # The top layer is the model's output, whose scores and accuracies another program has computed.
    for path in sorted((folder / "layers").glob("*.json")):
        *_, top = json.loads(path.read_text()).values()
        scored = json.loads((folder / "scores" / path.name).read_text())["scores"]
        for name, score in top["scores"].items():
            assert score["value"] == pytest.approx(scored[name]["value"], abs=1e-6)
        accuracies = json.loads((folder / "accuracies" / path.name).read_text())
        assert top["accuracies"] == {task: accuracies[task] for task in (PHONE, SPEAKER)}


@pytest.mark.slow
def test_what_is_scored_is_not_scored_again_and_what_is_new_is_added(config, folder):
    scores = sorted((folder / "scores").glob("*.json"))
    stamps = [path.stat().st_mtime for path in scores]
    run_program("score", config)
    assert [path.stat().st_mtime for path in scores] == stamps

    grown, original = scores[0], scores[0].read_text()
    found = json.loads(original)
    missing = {name: score for name, score in found["scores"].items() if "segment_seconds=1" in name}
    assert missing
    kept = {name: {"value": 9.0, "stderr": 0.0} for name in found["scores"] if name not in missing}
    grown.write_text(json.dumps(found | {"scores": kept}))
    path = folder / f"embeddings/{grown.stem}.pt"
    embeddings = torch.load(path)
    pooled = {key: z[:, :3] if key[0] == SHARED else z for key, z in embeddings["pooled"].items()}
    torch.save(embeddings | {"pooled": {key: z for key, z in pooled.items() if key[0] != LONG}}, path)
    run_program("score", config)
    again = json.loads(grown.read_text())["scores"]
    grown.write_text(original)
    assert {name: again[name] for name in kept} == kept
    assert {name: again[name] for name in missing} == missing
    for key, z in torch.load(path)["pooled"].items():
        assert torch.equal(z, embeddings["pooled"][key])


@pytest.mark.slow
def test_the_zoo_on_recorded_speech(tmp_path):
    rng = random.Random(0)
    texts = {f"p{i:02d}": sentence("en-us", rng) for i in range(60)}
    config = composed(
        "zoo=small",
        "speech=recorded",
        f"speech.packages=[{lay_out(tmp_path / 'packages', texts)}]",
        f"speech.root={tmp_path / 'cache'}",
        "speech.utterances={train: 100, score: 140, downstream: 140}",
        f"folder={tmp_path / 'zoo'}",
        "report.bootstraps=50",
        "report.splits=10",
        "report.parts=[zoo,layers]",
        "steps=[5,20]",
        "~runs.cpc_across",
        "~runs.apc_near",
        "~runs.hubert_few_classes",
        "~runs.untrained_hubert",
        "~runs.cpc_decayed",
    )
    for program in ("train", "score", "score_layers", "report"):
        run_program(program, config)
    table = (tmp_path / "zoo/report/zoo.md").read_text()
    assert "7 checkpoints of 4 runs" in table
    for task in ("Phone", "Speaker", "Language"):
        assert f"## {task} accuracy" in table
    assert "Layers of 7 checkpoints" in (tmp_path / "zoo/report/layers.md").read_text()
    # Eight sets by seven speakers: chance is one in seven.
    found = [json.loads(path.read_text()) for path in sorted((tmp_path / "zoo/accuracies").glob("*.json"))]
    assert len(found) == 7
    assert max(each[SPEAKER] for each in found) > 0.4
    assert max(each[PHONE] for each in found) > 0.1
