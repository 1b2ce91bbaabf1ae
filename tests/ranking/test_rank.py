import csv
import sys
import warnings
from dataclasses import replace
from functools import partial

import lightning.pytorch as pl
import pytest
import torch
import torchaudio
import transformers
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_mi import MIBoundCallback, mi_bound
from lightning_mi.embedding.pooling import pool
from lightning_mi.inputs.batches import Waveforms
from lightning_mi.inputs.segments import SegmentSampler, parse_gaps
from lightning_mi.ranking.checkpoints import Checkpoint, UnreadableCheckpointError, find_checkpoints
from lightning_mi.ranking.cli import main
from lightning_mi.ranking.hydra_config import compose_config
from lightning_mi.ranking.rank import Ranking, rank_models
from lightning_mi.ranking.report import format_ranking, plot_ranking, write_ranking_csv
from tests.helpers.support import (
    PAPER,
    SAMPLE_RATE,
    SMALL_WAV2VEC2,
    TinySpeechModel,
    loader,
    quiet_trainer,
    transformers_config,
    utterances,
)

COUNT = 200


def rank(models, data=None, trainer=None, **kwargs):
    settings = {"num_clusters": 8, "sample_rate": SAMPLE_RATE} | kwargs
    return rank_models(
        models,
        loader(utterances(COUNT)) if data is None else data,
        callback=partial(MIBoundCallback, **PAPER | settings),
        trainer=trainer or partial(Trainer, accelerator="cpu"),
        progress_bar=False,
    )


def noisy(model, scale, seed=0):
    """The model's frames, with as much noise of its own for each segment."""

    def embed(waveforms):
        z = model(waveforms)
        return z + scale * torch.randn(z.shape, generator=torch.Generator().manual_seed(seed))

    return embed


def three_models():
    model = TinySpeechModel()
    return {"a little": noisy(model, 0.5), "much": noisy(model, 1.5), "none": model}


@pytest.fixture(scope="module")
def ranking():
    torch.manual_seed(0)
    return rank(three_models())


@pytest.fixture(scope="module")
def parts_ranking():
    torch.manual_seed(0)
    models = {"b": TinySpeechModel(), "a": TinySpeechModel()}
    return rank(models, embed="predict", layers=["rnn", "head"], gap_seconds=["near", 0.25])


# ---- the numbers


def test_ordered_by_the_bound_of_the_pure_function(ranking):
    """Against the whole path, written out."""
    torch.manual_seed(0)
    x = utterances(COUNT)
    segments = SegmentSampler(0.5, parse_gaps("near"), SAMPLE_RATE, seed=0)(
        Waveforms(x, torch.full((COUNT,), x.shape[1]))
    )
    bounds = {}
    for name, model in three_models().items():
        with torch.no_grad():
            frames = model(segments.samples.flatten(0, 1)).unflatten(0, (COUNT, 2))
        z = pool(frames, "mean")
        bounds[name] = mi_bound(z[:, 0], z[:, 1], 8, groups=segments.groups).bound
    assert [model.name for model in ranking.models] == sorted(bounds, key=bounds.get, reverse=True)
    assert [model.name for model in ranking.models] == ["none", "a little", "much"]
    none = ranking.models[0]
    assert none.bound == pytest.approx(bounds["none"], abs=2e-2)
    assert (none.pairs, none.skipped) == (COUNT, 0)
    assert not ranking.left_out


def test_differences_are_gain_over():
    torch.manual_seed(0)
    models = {"small": TinySpeechModel(dim=2), "large": TinySpeechModel(dim=16)}
    ranking = rank(models)
    estimates = {}
    for name, model in models.items():
        callback = MIBoundCallback(num_clusters=8, sample_rate=SAMPLE_RATE, **PAPER)
        quiet_trainer(callbacks=[callback]).validate(model, loader(utterances(COUNT)), verbose=False)
        estimates[name] = next(iter(callback.estimates.values()))
    best, other = ranking.models
    assert (best.delta_to_best, best.delta_to_best_stderr) == (0, 0)
    assert (best.bound, other.bound) == tuple(sorted((e.bound for e in estimates.values()), reverse=True))
    assert (other.delta_to_best, other.delta_to_best_stderr) == estimates[best.name].gain_over(
        estimates[other.name]
    )


def test_the_same_pairs_for_all_whatever_the_order_of_the_data(ranking):
    first, *others = [next(iter(model.estimates.values())).scores for model in ranking.models]
    for scores in others:
        assert torch.equal(scores.groups, first.groups)
        assert torch.equal(scores.halves, first.halves)
    torch.manual_seed(0)
    shuffled = rank({"none": TinySpeechModel()}, loader(utterances(COUNT), batch_size=23, shuffle=True))
    assert shuffled.models[0].bound == pytest.approx(ranking.models[0].bound, abs=1e-5)


# ---- models of every kind


class WithoutValidation(pl.LightningModule):
    """A LightningModule that no Trainer validates by itself."""

    def __init__(self):
        super().__init__()
        self.model = TinySpeechModel()

    def forward(self, x):
        return self.model(x)


def test_modules_callables_and_models_of_libraries_side_by_side():
    models = {
        "lightning": TinySpeechModel(),
        "lightning, no validation": WithoutValidation(),
        "callable": lambda x: x.unfold(1, 50, 50).std(dim=-1, keepdim=True),
        "torchaudio": torchaudio.models.wav2vec2_model(**SMALL_WAV2VEC2, aux_num_out=None),
        "transformers": transformers.Wav2Vec2Model(transformers_config("Wav2Vec2")),
    }
    modes = {name: model.training for name, model in models.items() if isinstance(model, torch.nn.Module)}
    before = {name: model.state_dict() for name, model in models.items() if name in modes}
    before = {name: {key: x.clone() for key, x in state.items()} for name, state in before.items()}
    ranking = rank(models)
    assert not ranking.left_out
    assert {model.name for model in ranking.models} == models.keys()
    assert {model.pairs for model in ranking.models} == {COUNT}
    assert all(model.bound > 0 for model in ranking.models if model.name.startswith("lightning"))
    for name, training in modes.items():
        assert models[name].training == training
        assert all(torch.equal(x, before[name][key]) for key, x in models[name].state_dict().items())


def test_a_data_module():
    class Data(pl.LightningDataModule):
        def val_dataloader(self):
            return loader(utterances(COUNT))

    torch.manual_seed(0)
    model = TinySpeechModel()
    assert rank({"x": model}, Data()).models[0].bound == rank({"x": model}).models[0].bound


def test_what_is_no_model_is_an_error():
    with pytest.raises(TypeError, match="'x' a int"):
        rank({"x": 3})
    with pytest.raises(ValueError, match="at least one model"):
        rank({})


# ---- what is left out


def saved(folder, content, name="x.ckpt"):
    torch.save(content, folder / name)
    return folder / name


UNREADABLE = {
    "missing": (lambda folder: folder / "none.ckpt", "no such file"),
    "a folder": (lambda folder: folder, "consolidate_checkpoint"),
    "text": (lambda folder: [(folder / "x").write_text("junk"), folder / "x"][1], "not a checkpoint"),
    "empty": (lambda folder: [(folder / "x").write_bytes(b""), folder / "x"][1], "not a checkpoint"),
    "a tensor": (lambda folder: saved(folder, torch.zeros(3)), "holds a Tensor"),
    "no weights": (lambda folder: saved(folder, {"epoch": 3}), "the keys 'epoch'"),
    "another model": (
        lambda folder: saved(folder, {"state_dict": torch.nn.Linear(2, 2).state_dict()}),
        r"do not fit TinySpeechModel: 6 missing \(rnn.weight_ih_l0, .*, ...\); 2 unexpected \(weight, bias\)",
    ),
    "another size": (
        lambda folder: saved(folder, {"state_dict": TinySpeechModel(dim=8).state_dict()}),
        r"5 of another shape \(rnn.weight_ih_l0 \(24, 26\) for \(48, 26\)",
    ),
    "code": (
        lambda folder: saved(
            folder, {"state_dict": TinySpeechModel().state_dict(), "maker": UnreadableCheckpointError}
        ),
        "holds more than weights .*trust=True",
    ),
    "truncated": (
        lambda folder: [
            (folder / "y").write_bytes(saved(folder, TinySpeechModel().state_dict()).read_bytes()[:2000]),
            folder / "y",
        ][1],
        "not a checkpoint",
    ),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_unreadable_checkpoints_are_named_and_left_out(tmp_path, kind):
    make, reason = UNREADABLE[kind]
    checkpoint = Checkpoint(make(tmp_path), TinySpeechModel)
    with pytest.raises(UnreadableCheckpointError, match=reason) as raised:
        checkpoint.load()
    if kind == "missing":
        ranking = rank({"bad": checkpoint, "good": TinySpeechModel()})
        assert [model.name for model in ranking.models] == ["good"]
        assert ranking.left_out == {"bad": str(raised.value)}
        assert "left out: bad: no such file" in format_ranking(ranking)


def test_code_in_a_checkpoint_is_read_where_it_is_trusted(tmp_path):
    make, _ = UNREADABLE["code"]
    assert Checkpoint(make(tmp_path), TinySpeechModel, trust=True).load().head.weight.isfinite().all()


def test_checkpoints_are_ranked_as_their_models(tmp_path):
    model = TinySpeechModel()
    trainer = quiet_trainer()
    trainer.fit(model, loader(utterances(64)))
    trainer.save_checkpoint(tmp_path / "lightning.ckpt")
    torch.save(model.state_dict(), tmp_path / "plain.pt")
    models = {name: Checkpoint(tmp_path / name, TinySpeechModel) for name in ("lightning.ckpt", "plain.pt")}
    ranking = rank({"itself": model} | models)
    assert len({model.bound for model in ranking.models}) == 1
    assert len(ranking.models) == 3


class MadeLate(TinySpeechModel):
    """Its layers are made, and its checkpoints are read, in hooks."""

    def __init__(self):
        super().__init__()
        del self.head
        self.note = None

    def configure_model(self):
        self.head = torch.nn.Linear(16, 26)

    def on_load_checkpoint(self, checkpoint):
        self.note = checkpoint["note"]


def test_hooks_of_lightning_modules_are_called(tmp_path):
    path = saved(tmp_path, {"state_dict": TinySpeechModel().state_dict(), "note": 3})
    loaded = Checkpoint(path, MadeLate).load()
    assert loaded.note == 3
    assert loaded.head.weight.shape == (26, 16)


def fails(x):
    raise RuntimeError("a broken model")


def not_a_number(x):
    return torch.full((len(x), 4), torch.nan)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (fails, "RuntimeError: a broken model"),
        (not_a_number, "0 usable pairs"),
        (lambda x: "text", "Cannot tell which part of the output"),
    ],
)
def test_models_without_a_bound_are_named_with_the_reason(model, reason):
    ranking = rank({"bad": model, "good": TinySpeechModel()})
    assert [model.name for model in ranking.models] == ["good"]
    assert reason in ranking.left_out["bad"]


class FailsToValidate(TinySpeechModel):
    def validation_step(self, batch, batch_idx):
        raise KeyError("labels")


def test_a_module_that_fails_to_validate_is_left_out():
    ranking = rank({"bad": FailsToValidate(), "good": TinySpeechModel()})
    assert [model.name for model in ranking.models] == ["good"]
    assert ranking.left_out == {"bad": "KeyError: 'labels'"}


def test_nothing_ranked():
    ranking = rank({"bad": fails, "worse": fails})
    assert ranking.models == ()
    assert format_ranking(ranking) == "left out: bad, worse: RuntimeError: a broken model"
    with pytest.raises(ValueError, match="at least one ranked model"):
        plot_ranking(ranking)


def test_a_warning_is_said_once_for_all_models():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rank({"a": TinySpeechModel(), "b": TinySpeechModel()}, num_clusters=128)
    assert sum("lowers `num_clusters`" in str(warning.message) for warning in caught) == 1


# ---- table, CSV, plot


def test_table(ranking):
    header, *rows = format_ranking(ranking).splitlines()
    assert " ".join(header.split()) == "rank model bound ± stderr delta to best ± stderr pairs skipped"
    none = ranking.models[0]
    assert rows[0].split() == ["1", "none", f"{none.bound:.3f}", "±", f"{none.stderr:.3f}", "200", "0"]
    much = ranking.models[2]
    assert f"{much.delta_to_best:.3f} ± {much.delta_to_best_stderr:.3f}" in rows[2]
    assert "nats" in rows[3]


def test_csv(ranking, tmp_path):
    path = tmp_path / "folder" / "ranking.csv"
    write_ranking_csv(ranking, path)
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["none", "a little", "much"]
    assert [row["rank"] for row in rows] == ["1", "2", "3"]
    for row, model in zip(rows, ranking.models, strict=True):
        for column in ("bound", "stderr", "delta_to_best", "delta_to_best_stderr", "pairs", "skipped"):
            assert float(row[column]) == getattr(model, column)
    assert float(rows[0]["ceiling"]) == pytest.approx(torch.tensor(8.0).log().item())
    assert len(rows[0]) == 9


def test_layers_and_gaps_in_csv_and_table(parts_ranking, tmp_path):
    write_ranking_csv(parts_ranking, tmp_path / "ranking.csv")
    with open(tmp_path / "ranking.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row, model in zip(rows, parts_ranking.models, strict=True):
        for part, key in {
            "layers/rnn": ("rnn", "near"),
            "layers/head": ("head", "near"),
            "gap_near": ("head", "near"),
            "gap_0.25": ("head", "0.25"),
        }.items():
            assert float(row[f"{part}/bound"]) == model.estimates[key].bound
            assert float(row[f"{part}/stderr"]) == model.estimates[key].stderr
    assert len(rows) == 2
    table = format_ranking(parts_ranking)
    assert [line.split()[0] for line in table.splitlines()[-4:]] == [
        "layers/head",
        "layers/rnn",
        "gap_near",
        "gap_0.25",
    ]


def test_plot(ranking, tmp_path):
    figure = plot_ranking(ranking, tmp_path / "folder" / "ranking.png")
    assert (tmp_path / "folder" / "ranking.png").read_bytes()[:4] == b"\x89PNG"
    bounds, below = figure.axes
    assert [label.get_text() for label in bounds.get_yticklabels()] == ["none", "a little", "much"]
    assert "lower bound" in bounds.get_xlabel()
    for axes, values in ((bounds, "bound"), (below, "delta_to_best")):
        assert "(nats)" in axes.get_xlabel()
        points = axes.containers[0][0]
        assert points.get_xdata().tolist() == [getattr(model, values) for model in ranking.models]
        assert points.get_ydata().tolist() == [0, 1, 2]
    low, high = bounds.get_ylim()
    assert low > high  # the best on top


def test_paths_are_shortened_by_the_folder_that_all_are_in(ranking):
    names = ["runs/a/one.ckpt", "runs/b/two.ckpt", "untrained"]
    models = [replace(model, name=name) for model, name in zip(ranking.models, names, strict=True)]
    shortened = Ranking(tuple(models), {})
    assert "\n   1  a/one.ckpt " in format_ranking(shortened)
    assert "Models are in runs." in format_ranking(shortened)
    labels = [label.get_text() for label in plot_ranking(shortened).axes[0].get_yticklabels()]
    assert labels == ["a/one.ckpt", "b/two.ckpt", "untrained"]


def test_a_plot_without_matplotlib_says_what_to_install(ranking, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'lightning-mi\[plot\]'"):
        plot_ranking(ranking)


# ---- finding checkpoints


def test_files_folders_and_globs(tmp_path, monkeypatch):
    for name in ("a/step=10.ckpt", "a/step=9.ckpt", "a/deeper/last.ckpt", "a/notes.txt", "b/x.pt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_checkpoints(["a"]) == ["a/deeper/last.ckpt", "a/step=9.ckpt", "a/step=10.ckpt"]
    assert find_checkpoints(["a/*.ckpt", "b/*"]) == ["a/step=9.ckpt", "a/step=10.ckpt", "b/x.pt"]
    assert find_checkpoints(["a/step=10.ckpt", str(tmp_path / "a/step=10.ckpt"), "a/st*"]) == [
        "a/step=10.ckpt",
        "a/step=9.ckpt",
    ]
    assert find_checkpoints(["empty", "none*.ckpt"]) == ["empty", "none*.ckpt"]


# ---- the command line

OVERRIDES = [
    "data.utterances=300",
    "data.languages=[en-us,fr-fr]",
    "trainer.accelerator=cpu",
    "data.val_fraction=0.5",
]
BOUND = ["callbacks.mi_bound.num_clusters=8"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with checkpoints of the demo's model, untrained and trained a little, and the overrides used."""
    from hydra.utils import instantiate

    folder = tmp_path_factory.mktemp("demo")
    overrides = [*OVERRIDES, f"data.root={folder / 'cache'}"]
    config = compose_config("train", [*overrides, "trainer.max_epochs=8", "trainer.check_val_every_n_epoch=8"])
    pl.seed_everything(config.seed, verbose=False)
    data, model = instantiate(config.data), instantiate(config.model)
    saving = ModelCheckpoint(
        folder / "ckpt", "{epoch}-{step}", save_top_k=-1, every_n_epochs=4, save_on_train_epoch_end=True
    )
    trainer = instantiate(
        config.trainer, callbacks=[saving], logger=False, enable_progress_bar=False, num_sanity_val_steps=0
    )
    trainer.validate(model, data, verbose=False)
    trainer.save_checkpoint(folder / "ckpt/at_first.ckpt")
    trainer.fit(model, data)
    (folder / "ckpt/junk.ckpt").write_text("junk")
    return folder, overrides


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_ranks_the_checkpoints_of_the_demo(trained, tmp_path, monkeypatch, capsys):
    folder, overrides = trained
    monkeypatch.chdir(tmp_path)
    status = main(["rank", str(folder / "ckpt"), "gone.ckpt", "--untrained", *overrides, *BOUND])
    printed = capsys.readouterr().out
    assert status == 0
    rows = rows_of("mi_ranking.csv")
    names = [row["name"].rsplit("/", 1)[-1] for row in rows]
    assert {*names[:2]} == {"epoch=3-step=16.ckpt", "epoch=7-step=32.ckpt"}
    assert {*names[2:]} == {"at_first.ckpt", "untrained"}
    assert rows[2]["bound"] == rows[3]["bound"]
    assert float(rows[2]["delta_to_best"]) > 2 * float(rows[2]["delta_to_best_stderr"])
    assert f"left out: {folder / 'ckpt/junk.ckpt'}: not a checkpoint" in printed
    assert "left out: gone.ckpt: no such file" in printed
    assert "mi_ranking.png" in printed
    assert (tmp_path / "mi_ranking.png").stat().st_size > 10_000


def test_configs_of_the_users_own(trained, tmp_path, monkeypatch):
    """A YAML file that takes our groups, and the folder of a run, as Hydra leaves it."""
    from omegaconf import OmegaConf

    folder, overrides = trained
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(
        "defaults:\n  - data: espeak\n  - model: hubert\n  - callbacks: mi_bound\n  - trainer: default\n  - _self_\nseed: 0\n"
    )
    hydra_folder = tmp_path / "run" / ".hydra"
    hydra_folder.mkdir(parents=True)
    OmegaConf.save(compose_config("train", [*overrides, *BOUND]), hydra_folder / "config.yaml")
    checkpoint = str(folder / "ckpt/epoch=7-step=32.ckpt")
    bounds = []
    for config, more in (("mine.yaml", [*overrides, *BOUND]), ("run", []), ("train", [*overrides, *BOUND])):
        assert main(["rank", checkpoint, "--config", config, "--csv", "out.csv", "--plot", "", *more]) == 0
        bounds.append([row["bound"] for row in rows_of("out.csv")])
    assert bounds[0] == bounds[1] == bounds[2]
    assert not (tmp_path / "mi_ranking.png").exists()


def test_composing_leaves_a_hydra_program_alone():
    from hydra import compose, initialize_config_module

    with initialize_config_module("lightning_mi.configs", version_base="1.3"):
        assert compose_config("train", ["seed=3"]).seed == 3
        assert compose("train", overrides=["seed=4"]).seed == 4


def test_checkpoints_of_another_model(trained, tmp_path, monkeypatch, capsys):
    folder, overrides = trained
    monkeypatch.chdir(tmp_path)
    checkpoint = str(folder / "ckpt/at_first.ckpt")
    assert main(["rank", checkpoint, "model=apc", *overrides]) == 1
    said = capsys.readouterr()
    assert "do not fit APCModule" in said.out
    assert "model=..." in said.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--config", "none"], "Cannot find primary config 'none'"),
        (["--config", "none.yaml"], "none.yaml: no such file"),
        (["--config", "."], "holds none of train.yaml, config.yaml"),
        (["model=hubrt"], "Could not find 'model/hubrt'"),
        (["callbacks.mi_bound.num_cluster=3"], "num_cluster"),
        (["callbacks=none"], "add callbacks=mi_bound"),
        (["data=audio_folder"], "data.root"),
        (["callbacks.mi_bound.num_clusters=-1"], "num_clusters"),
        (["~model"], "must have `model`"),
    ],
)
def test_wrong_configs_are_said_in_words(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.save({}, "x.pt")
    assert main(["rank", "x.pt", "--untrained", *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["rank"], ["rank", "model=apc"], ["rank", "x.ckpt", "--confg=train"], []])
def test_wrong_arguments_end_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    assert "lightning-mi" in capsys.readouterr().err


def test_help_teaches(capsys):
    with pytest.raises(SystemExit) as raised:
        main(["rank", "--help"])
    assert raised.value.code == 0
    said = capsys.readouterr().out
    for part in ("nats", "--untrained", "data=audio_folder", "exit status", "callbacks.mi_bound.num_clusters=64"):
        assert part in said


def test_without_hydra_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "hydra", None)
    assert main(["rank", "x.ckpt"]) == 2
    assert "pip install 'lightning-mi[hydra]'" in capsys.readouterr().err


def test_without_matplotlib_a_plot_that_was_asked_for_is_an_error(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["rank", "x.ckpt", "--plot", "x.png"]) == 2
    assert "pip install 'lightning-mi[plot]'" in capsys.readouterr().err
