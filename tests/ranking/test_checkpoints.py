import pytest
import torch

from lightning_mi.ranking.checkpoints import Checkpoint, UnreadableCheckpointError, find_checkpoints
from lightning_mi.ranking.report import format_ranking
from tests.helpers.models import TinySpeechModel, loader, quiet_trainer
from tests.helpers.speech import utterances
from tests.ranking.models import rank, saved

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


def test_a_checkpoint_with_code_is_read_if_it_is_trusted(tmp_path):
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
    """Hooks make its layers and read its checkpoints."""

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


def test_files_folders_and_globs_are_found_once_in_natural_order(tmp_path, monkeypatch):
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
