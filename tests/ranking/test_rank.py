import io
import math
import re
import subprocess
import sys
import warnings
from functools import partial

import lightning.pytorch as pl
import pytest
import torch
import torchaudio
import transformers

import lightning_mi.ranking
from lightning_mi import MIBoundCallback, mi_bound
from lightning_mi.embedding.pooling import pool
from lightning_mi.inputs.batches import Waveforms
from lightning_mi.inputs.segments import SegmentSampler, parse_gaps
from lightning_mi.ranking.rank import rank_models
from lightning_mi.ranking.report import format_ranking, plot_ranking
from tests.helpers.library_models import SMALL_WAV2VEC2, transformers_config
from tests.helpers.models import TinySpeechModel, loader, quiet_trainer
from tests.helpers.run_callback import ONE_PAIR, PAPER
from tests.helpers.speech import SAMPLE_RATE, syllables, utterances
from tests.ranking.models import COUNT, rank, three_models


def test_models_are_ordered_by_the_bound_of_the_pure_function(ranking):
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


def test_the_delta_to_best_is_the_gain_of_the_best():
    torch.manual_seed(0)
    models = {"small": TinySpeechModel(dim=2), "large": TinySpeechModel(dim=16)}
    ranking = rank(models)
    estimates = {}
    for name, model in models.items():
        callback = MIBoundCallback(num_clusters=8, sample_rate=SAMPLE_RATE, **PAPER, **ONE_PAIR)
        quiet_trainer(callbacks=[callback]).validate(model, loader(utterances(COUNT)), verbose=False)
        estimates[name] = next(iter(callback.estimates.values()))
    best, other = ranking.models
    assert (best.delta_to_best, best.delta_to_best_stderr) == (0, 0)
    assert (best.bound, other.bound) == tuple(sorted((e.bound for e in estimates.values()), reverse=True))
    assert (other.delta_to_best, other.delta_to_best_stderr) == estimates[best.name].gain_over(
        estimates[other.name]
    )


def test_views_are_ranked_by_content():
    """Of a model that keeps what lasts for all of an utterance, and one that keeps what is heard at the moment."""
    x = syllables(COUNT)
    lasting = torch.arange(COUNT) % 8
    x = x + torch.sin(2 * math.pi * 3 * (1 + lasting[:, None]) * torch.arange(x.shape[1]) / SAMPLE_RATE)

    def spectrum(low, high):
        def embed(x):
            return torch.fft.rfft(x.unfold(1, 100, 50), dim=2).abs().add(0.1).log()[:, :, low:high]

        return embed

    models = {"all": spectrum(0, 3), "moment": spectrum(2, 50)}
    callback = partial(MIBoundCallback, "content", num_clusters=8, sample_rate=SAMPLE_RATE, **ONE_PAIR)
    ranking = rank_models(models, loader(x), callback, quiet_trainer, progress_bar=False)
    assert ranking.by == "content"
    assert [model.name for model in ranking.models] == ["moment", "all"]
    assert ranking.models[0].bound < ranking.models[1].bound
    contents = []
    for model in ranking.models:
        same, far = (model.estimates["output", gap] for gap in ("same", "far"))
        assert model.content == model.score
        assert model.content[0] == pytest.approx(same.bound - far.bound, abs=1e-6)  # one is floored at 0
        contents.append(same.scores.floored().minus(far.scores.floored()))
    best, other = ranking.models
    assert other.delta_to_best == pytest.approx(best.score[0] - other.score[0], abs=1e-6)
    assert (other.delta_to_best, other.delta_to_best_stderr) == contents[0].gain_over(contents[1])
    text = format_ranking(ranking)
    assert "content ± stderr" in text.splitlines()[0]
    assert f"{best.score[0]:.3f} ± {best.score[1]:.3f}" in text.splitlines()[1]
    assert "content" in plot_ranking(ranking).axes[0].get_xlabel()


def test_the_same_pairs_for_all_whatever_the_order_of_the_data(ranking):
    first, *others = [next(iter(model.estimates.values())).scores for model in ranking.models]
    for scores in others:
        assert torch.equal(scores.groups, first.groups)
        assert torch.equal(scores.halves, first.halves)
    torch.manual_seed(0)
    shuffled = rank({"none": TinySpeechModel()}, loader(utterances(COUNT), batch_size=23, shuffle=True))
    assert shuffled.models[0].bound == pytest.approx(ranking.models[0].bound, abs=1e-5)


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


def test_data_may_be_a_data_module():
    class Data(pl.LightningDataModule):
        def val_dataloader(self):
            return loader(utterances(COUNT))

    torch.manual_seed(0)
    model = TinySpeechModel()
    assert rank({"x": model}, Data()).models[0].bound == rank({"x": model}).models[0].bound


def test_a_value_that_is_not_a_model_is_an_error():
    with pytest.raises(TypeError, match="got int for 'x'"):
        rank({"x": 3})
    with pytest.raises(ValueError, match="at least one model, got an empty mapping"):
        rank({})


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
        warnings.warn("the batch has no labels", stacklevel=1)
        raise KeyError("labels")


def test_a_module_that_fails_to_validate_is_left_out():
    with pytest.warns(UserWarning, match="the batch has no labels"):
        ranking = rank({"bad": FailsToValidate(), "good": TinySpeechModel()})
    assert [model.name for model in ranking.models] == ["good"]
    assert ranking.left_out == {"bad": "KeyError: 'labels'"}


def test_a_ranking_may_hold_no_model():
    ranking = rank({"bad": fails, "worse": fails})
    assert ranking.models == ()
    assert format_ranking(ranking).startswith("left out: bad, worse: RuntimeError: a broken model (It is called")
    with pytest.raises(ValueError, match="at least one ranked model"):
        plot_ranking(ranking)


def test_a_warning_is_given_once_for_all_models():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rank({"a": TinySpeechModel(), "b": TinySpeechModel()}, num_clusters=128)
    assert sum("lowers `num_clusters`" in str(warning.message) for warning in caught) == 1


def test_the_reason_for_no_bound_is_listed_and_not_a_warning_too():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ranking = rank({"bad": fails, "good": TinySpeechModel()})
    assert set(ranking.left_out) == {"bad"}
    assert ranking.left_out["bad"].startswith(
        "RuntimeError: a broken model (It is called with segments alone; `embed"
    )
    assert not any("a broken model" in str(warning.message) for warning in caught)


class FailsWhere(TinySpeechModel):
    """NaN for the segments whose mean has this sign."""

    def __init__(self, sign):
        super().__init__()
        self.sign = sign

    def forward(self, x):
        failed = x.mean(-1).sign() == self.sign
        return torch.where(failed[:, None, None], torch.nan, super().forward(x))


def test_models_without_shared_utterances_are_ranked_without_a_difference():
    ranking = rank({"a": FailsWhere(1), "b": FailsWhere(-1), "c": TinySpeechModel()})
    assert not ranking.left_out
    deltas = {model.name: model.delta_to_best for model in ranking.models}
    best = ranking.models[0].name
    assert deltas.pop(best) == 0
    assert {name for name, delta in deltas.items() if math.isnan(delta)} == (
        {"a", "b"} - {best} if best != "c" else set()
    )
    only_two = rank({"a": FailsWhere(1), "b": FailsWhere(-1)})
    assert math.isnan(only_two.models[1].delta_to_best)
    assert "nan ± nan" in format_ranking(only_two)


def test_importing_the_ranking_needs_neither_hydra_nor_matplotlib():
    code = """
import sys
import lightning.pytorch, torchmetrics, faiss
before = set(sys.modules)
import lightning_mi.ranking
new = {name.split(".")[0] for name in set(sys.modules) - before}
print(sorted(new & {"hydra", "omegaconf", "matplotlib"}))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "[]"


def test_public_names_are_documented():
    assert set(lightning_mi.ranking.__all__) == {
        "Checkpoint",
        "RankedModel",
        "Ranking",
        "UnreadableCheckpointError",
        "find_checkpoints",
        "format_ranking",
        "plot_ranking",
        "rank_models",
        "write_ranking_csv",
    }
    for name in lightning_mi.ranking.__all__:
        assert getattr(lightning_mi.ranking, name).__doc__, name


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_a_terminal_shows_the_models_the_batches_and_the_estimates_and_a_file_nothing(stream, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", shown := stream())
    callback = partial(MIBoundCallback, num_clusters=4, sample_rate=SAMPLE_RATE)
    models = {"small": TinySpeechModel(dim=2), "large": TinySpeechModel(dim=16)}
    rank_models(models, loader(utterances(COUNT)), callback, partial(quiet_trainer, callbacks=[]))
    if stream is not Terminal:
        assert shown.getvalue() == ""
    else:
        lines = shown.getvalue().split("\r")
        for part in ("0/2 .*small", "1/2 .*large", "2/2 ", "embedding.* 1/", r"embedding.*mi_bound: estimate 3/3"):
            assert any(re.search(part, line) for line in lines), part
    assert capsys.readouterr().out == ""
