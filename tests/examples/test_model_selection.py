"""The zoo: its speech, its scores and its statistics against independent references, and the programs, whole."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("torchaudio")
pytest.importorskip("sklearn")

import scipy.linalg
import scipy.stats
from hydra import compose, initialize_config_module
from hydra.core.hydra_config import HydraConfig
from sklearn.metrics import silhouette_score

from lightning_mi import mi_bound
from lightning_mi.examples.data.utterances import Recording, Utterance
from lightning_mi.examples.model_selection import (
    report,
    report_clusters,
    report_layers,
    report_settings,
    score_layers,
    score_zoo,
    train_zoo,
)
from lightning_mi.examples.model_selection.channel import Channel
from lightning_mi.examples.model_selection.encode import (
    BOTH,
    CONTEXT,
    EDGE,
    FRAME,
    FRAMES_PER_ANCHOR,
    MEAN,
    embed,
)
from lightning_mi.examples.model_selection.local import (
    conditional_bound,
    conditional_difference,
    residual_bound,
)
from lightning_mi.examples.model_selection.ranks import (
    Zoo,
    choose,
    kendall,
    partial_spearman,
    regret,
    spearman,
    stop,
)
from lightning_mi.examples.model_selection.report import DEFAULT, Fresh
from lightning_mi.examples.model_selection.results import LOSS, Results, Scored, read, together, write
from lightning_mi.examples.model_selection.rivals import alpha_req, cluster_quality, lidar, rankme
from lightning_mi.examples.model_selection.scores import settings
from lightning_mi.examples.model_selection.segments import (
    AGAIN,
    ANCHOR,
    BRIEF,
    FAR,
    FIXED,
    HARSH,
    INDEPENDENT,
    LATER,
    LONG,
    NEAR,
    REVOICED,
    SHORT,
    VARIED,
    VIEWS,
    SegmentCutter,
)
from lightning_mi.examples.model_selection.speech import SCORE, TRAIN, TRUTH, ZooData
from lightning_mi.examples.model_selection.synthesised import SynthesisedCorpora
from lightning_mi.examples.model_selection.truth import (
    LANGUAGE,
    PHONE,
    VOICE,
    phone_at,
    probe_accuracy,
    truth_speech,
)
from lightning_mi.examples.model_selection.zoo import runs, trained

VARYING = Channel(gain_db=(-12.0, 6.0), tilt_db=(-3.0, 3.0), snr_db=(15.0, 40.0))
PLAIN = Channel(snr_db=(200.0, 200.0))


def composed(*overrides):
    with initialize_config_module("lightning_mi.configs", version_base="1.3"):
        return compose("model_selection", overrides=list(overrides))


# ---- rivals


def test_rankme_is_the_entropy_of_the_singular_values():
    z = torch.randn(200, 12) * torch.linspace(0.1, 2, 12)
    values = np.linalg.svd(z.double().numpy(), compute_uv=False)
    assert rankme(z) == pytest.approx(math.exp(scipy.stats.entropy(values)), rel=1e-4)
    assert rankme(torch.randn(50, 1) @ torch.randn(1, 8)) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_alpha_req_finds_the_power_law(alpha):
    deviations = torch.arange(1, 41, dtype=torch.float64) ** (-alpha / 2)
    z = torch.linalg.qr(torch.randn(400, 40, dtype=torch.float64))[0]
    z = torch.cat([z, -z]) * deviations  # centred, and its columns stay orthogonal
    assert alpha_req(z) == pytest.approx(alpha, abs=1e-6)


def test_alpha_req_of_one_direction_is_the_worst():
    assert alpha_req(torch.randn(50, 1) @ torch.ones(1, 4)) == math.inf


def test_lidar_against_its_definition():
    z = torch.randn(60, 1, 5) * torch.tensor([3.0, 2.0, 1.0, 0.5, 0.1]) + torch.randn(60, 4, 5)
    x = z.double().numpy()
    means = x.mean(axis=1)
    between = np.cov(means.T)
    within = sum((row - row.mean(0)).T @ (row - row.mean(0)) for row in x) / (60 * 3)
    root = np.linalg.inv(scipy.linalg.sqrtm(within))
    values = np.linalg.eigvalsh(root @ between @ root)
    expected = math.exp(scipy.stats.entropy(values / values.sum()))
    assert lidar(z, ridge=1e-9) == pytest.approx(expected, rel=1e-4)


def test_cluster_quality_prefers_clusters():
    centres = 10 * torch.randn(6, 8)
    member = torch.arange(600) % 6
    tight = centres[member] + 0.1 * torch.randn(600, 8)
    good, bad = cluster_quality(tight, 6), cluster_quality(torch.randn(600, 8), 6)
    assert all(good[name] > bad[name] for name in good)
    assert good["silhouette"] == pytest.approx(silhouette_score(tight.numpy(), member.numpy()), abs=1e-3)
    total = float((tight - tight.mean(0)).square().sum())
    inside = sum(float((part - part.mean(0)).square().sum()) for part in (tight[member == k] for k in range(6)))
    assert good["explained"] == pytest.approx(1 - inside / total, abs=1e-3)


def test_cluster_quality_of_a_collapsed_model_is_the_worst():
    found = cluster_quality(torch.ones(100, 4), 8)
    assert found["silhouette"] == -1
    assert found["davies_bouldin"] == -math.inf


# ---- local scores: two segments with a voice in common, neighbours with a phone in common


def conversation(count=3000, classes=4, shared=1.0, seed=0):
    """(z_a, z_b, z_far): a voice out of ``classes`` that all three tell exactly, and a Gaussian that the first two
    share with correlation rho = shared / (shared + 0.25)."""
    generator = torch.Generator().manual_seed(seed)
    voice = torch.nn.functional.one_hot(torch.randint(classes, (count,), generator=generator), classes).float()
    phone = math.sqrt(shared) * torch.randn(count, 2, generator=generator)

    def say(own):
        noise = 0.5 * torch.randn(count, 2, generator=generator)
        jitter = 0.02 * torch.randn(count, classes, generator=generator)
        return torch.cat([4 * voice + jitter, own + noise], dim=1)

    return say(phone), say(phone), say(math.sqrt(shared) * torch.randn(count, 2, generator=generator))


LOCAL = [conditional_difference, conditional_bound, residual_bound]


def information(shared):
    """I of the two Gaussians' two dimensions, in nats."""
    rho = shared / (shared + 0.25)
    return -math.log(1 - rho**2)


@pytest.mark.parametrize("score", LOCAL)
def test_what_only_the_voice_tells_is_taken_away(score):
    z_a, z_b, z_far = conversation(shared=0.0)
    groups = torch.arange(len(z_a))
    kwargs = {"num_backgrounds": 4} if score is conditional_bound else {}
    assert mi_bound(z_a, z_b, 16).bound > 1.2  # log 4 = 1.386
    found = score(z_a, z_b, z_far, 16, groups, **kwargs)
    assert found.value < 3 * found.stderr + 0.02


@pytest.mark.parametrize("score", LOCAL)
def test_what_neighbours_share_is_found_and_not_exceeded(score):
    z_a, z_b, z_far = conversation(shared=1.0)
    kwargs = {"num_backgrounds": 4} if score is conditional_bound else {}
    found = score(z_a, z_b, z_far, 32, torch.arange(len(z_a)), quantizer="kmeans", **kwargs)
    assert 0.2 * information(1.0) < found.value < information(1.0)
    assert 0 < found.stderr < 0.1


@pytest.mark.parametrize("score", [conditional_bound, residual_bound])
def test_bounds_of_nothing_are_not_above_nothing(score):
    values = []
    for seed in range(6):
        generator = torch.Generator().manual_seed(seed)
        z = torch.randn(3, 600, 3, generator=generator)
        values.append(score(*z, 16, torch.arange(600)).value)
    assert np.mean(values) < 0.01


def test_rows_of_a_group_stay_together():
    # Every pair twice: a split that tore the copies apart would find the information in them.
    z = torch.randn(3, 400, 3)
    z_a, z_b, z_far = z.repeat(1, 2, 1)
    groups = torch.arange(400).repeat(2)
    assert residual_bound(z_a, z_b, z_far, 16, groups).value < 0.05


# ---- statistics


def test_correlations_are_scipys():
    rng = np.random.default_rng(0)
    scores, truth = rng.integers(0, 6, (40, 7)).astype(float), rng.integers(0, 9, 40).astype(float)
    for column, rho, tau in zip(scores.T, spearman(scores, truth), kendall(scores, truth), strict=True):
        assert rho == pytest.approx(scipy.stats.spearmanr(column, truth).statistic)
        assert tau == pytest.approx(scipy.stats.kendalltau(column, truth).statistic)
    assert spearman(np.ones((5, 1)), np.arange(5.0)).tolist() == [0]
    assert kendall(np.full((5, 1), -np.inf), np.arange(5.0)).tolist() == [0]


def test_partial_correlation_is_that_of_the_residuals():
    rng = np.random.default_rng(0)
    other = rng.normal(size=60)
    truth, score = other + rng.normal(size=60), other + rng.normal(size=60)
    ranks = [scipy.stats.rankdata(x) for x in (score, truth, other)]
    line = np.stack([np.ones(60), ranks[2]], axis=1)
    left = [x - line @ np.linalg.lstsq(line, x, rcond=None)[0] for x in ranks[:2]]
    expected = np.corrcoef(*left)[0, 1]
    assert partial_spearman(score[:, None], truth, other) == pytest.approx([expected])
    assert partial_spearman(other[:, None], truth, other) == pytest.approx([0])


def test_regret():
    scores = np.array([[3.0, 0.0, 1.0], [1.0, 9.0, 1.0], [2.0, 0.0, 0.0]])
    assert regret(scores, np.array([0.5, 0.7, 0.4])) == pytest.approx([0.2, 0.0, 0.1])


@pytest.mark.parametrize(
    ("values", "patience", "expected"),
    [([1, 2, 3], 1, (2, 2)), ([1, 3, 2, 4], 1, (1, 2)), ([1, 3, 2, 4], 2, (3, 3)), ([5, 5, 5], 2, (0, 2))],
)
def test_stop(values, patience, expected):
    assert stop(np.array(values, dtype=float), patience) == expected


def zoo(num_runs=12, steps=4, seed=0):
    rng = np.random.default_rng(seed)
    quality = rng.normal(size=(num_runs, 1)) + 0.3 * np.arange(steps)
    truth = quality.flatten()
    scores = np.stack([truth + 0.1 * rng.normal(size=truth.shape), rng.normal(size=truth.shape)], axis=1)
    number = np.arange(num_runs).repeat(steps)
    return Zoo(
        runs=number,
        objectives=np.array(["a", "b"])[number % 2],
        steps=np.tile(np.arange(steps), num_runs),
        honest=number % 3 != 0,
        scores=scores,
        truth=truth,
    )


def test_bootstrap_draws_whole_runs():
    made = zoo()
    sizes = made.bootstrap(lambda drawn: np.bincount(drawn.runs, minlength=12).astype(float), times=50)
    assert set(np.unique(sizes)) <= {0, 4, 8, 12, 16, 20, 24}
    assert (sizes.sum(axis=1) == 48).all()


def test_copies_of_a_checkpoint_narrow_no_interval():
    once = zoo(steps=1)
    often = once.of_rows(np.arange(12).repeat(4))
    draws = [each.bootstrap(lambda drawn: drawn.value(spearman), times=20) for each in (once, often)]
    assert draws[0] == pytest.approx(draws[1])


def test_halves_share_no_run_and_every_kind_is_in_both():
    made = zoo()
    for seed in range(5):
        half, other = made.halves(np.random.default_rng(seed))
        assert not set(half.runs) & set(other.runs)
        assert set(half.runs) | set(other.runs) == set(range(12))
        for side in (half, other):
            kinds = {(kind, honest) for kind, honest in zip(side.objectives, side.honest, strict=True)}
            assert len(kinds) == 4


def test_halves_of_few_runs():
    made = zoo(num_runs=4)  # one of each kind: neither half is ever empty
    for seed in range(10):
        half, other = made.halves(np.random.default_rng(seed))
        assert len(np.unique(half.runs)) == len(np.unique(other.runs)) == 2
    with pytest.raises(ValueError, match="runs: got one"):
        made.of_runs([1]).halves(np.random.default_rng(0))


def test_choosing_among_some():
    values = np.array([0.9, 0.1, 0.5, 0.4])
    assert choose(values, [1, 2, 3]) == 2
    assert choose(values, [0, 3]) == 0


def test_stopping_regret_by_hand():
    made = Zoo(
        runs=np.array([0, 0, 0, 1, 1, 1]),
        objectives=np.array(["a"] * 6),
        steps=np.array([3, 1, 2, 1, 2, 3]),  # in any order
        honest=np.array([True] * 6),
        scores=np.array([[1.0], [2.0], [3.0], [1.0], [2.0], [3.0]]),
        truth=np.array([0.9, 0.5, 0.8, 0.3, 0.2, 0.1]),
    )
    # Run 0 keeps step 2 (0.8 of 0.9), run 1 step 3 (0.1 of 0.3).
    assert made.stopping_regret(patience=1) == pytest.approx([0.15])


# ---- results of one zoo, and of several


def results(seed=0, names=(DEFAULT, "RankMe/frames", "RankMe/pooled", LOSS), truths=("phone", "voice")):
    """20 checkpoints of 5 runs; all scores are noise."""
    rng = np.random.default_rng(seed)
    rows = [
        Scored(f"run_{run}", step, "apc", "noise" if run == 4 else "") for run in range(5) for step in range(4)
    ]
    return Results(
        checkpoints=rows,
        left_out=[],
        names=list(names),
        scores=rng.normal(size=(20, len(names))),
        truth={name: rng.uniform(size=20) for name in truths},
        labelled={name: rng.uniform(size=20) for name in truths},
    )


def with_score(made, name, values):
    scores = made.scores.copy()
    scores[:, made.names.index(name)] = values
    return replace(made, scores=scores)


def test_what_is_written_is_read(tmp_path):
    made = with_score(results(), LOSS, -math.inf)
    write(made, tmp_path / "kept.csv")
    found = read(tmp_path / "kept.csv")
    assert found.checkpoints == made.checkpoints
    assert found.names == made.names
    np.testing.assert_allclose(found.scores, made.scores, rtol=1e-5)
    for name in made.truth:
        np.testing.assert_allclose(found.truth[name], made.truth[name], rtol=1e-5)
        np.testing.assert_allclose(found.labelled[name], made.labelled[name], rtol=1e-5)
    with pytest.raises(FileNotFoundError, match=r"run report\.py"):
        read(tmp_path / "none.csv")


def test_zoos_together_share_scores_and_no_runs():
    one, other = results(0), results(1, names=(LOSS, "RankMe/pooled", DEFAULT), truths=("voice",))
    both = together([one, other])
    assert both.names == [DEFAULT, "RankMe/pooled", LOSS]
    assert list(both.truth) == ["voice"]
    zoo = both.zoo("voice")
    assert len(np.unique(zoo.runs)) == 10
    assert zoo.honest.sum() == 32
    at = both.names.index("RankMe/pooled")
    assert both.scores[:, at].tolist() == [*one.scores[:, 2], *other.scores[:, 1]]
    assert zoo.truth.tolist() == [*one.truth["voice"], *other.truth["voice"]]


def test_another_zoo_chooses(tmp_path):
    seen, judged = results(0), results(1)
    seen = with_score(seen, "RankMe/pooled", seen.truth["phone"])
    judged = with_score(judged, "RankMe/frames", judged.truth["phone"])  # the best here, which nobody may know
    judged = with_score(judged, DEFAULT, judged.truth["phone"])
    (tmp_path / "report").mkdir()
    write(seen, tmp_path / "report/checkpoints.csv")
    config = composed(f"report.chosen_in=[{tmp_path}]", "report.bootstraps=20").report
    fresh = Fresh.of(judged, config)
    table = fresh.lines("phone", config)
    assert table[0].startswith("20 checkpoints of 5 runs")
    assert sum("`RankMe/pooled`" in line for line in table) == 1
    assert not any("RankMe/frames" in line for line in table)
    (default,) = (line for line in table if line.startswith(f"| `{DEFAULT}` |"))
    rival = scipy.stats.spearmanr(judged.scores[:, 2], judged.truth["phone"]).statistic
    assert "| +1.00 [+1.00, +1.00] | +1.00 | 0.0 | 0.0 |" in default
    assert f"| {1 - rival:+.2f} [" in default


def test_several_zoos_choose_by_what_is_best_inside_of_each(tmp_path):
    folders = [tmp_path / name for name in ("one", "other")]
    for folder, offset in zip(folders, (0.0, 100.0), strict=True):
        # The first ranks perfectly inside of each zoo; the second only tells one zoo from the other.
        seen = results(int(offset))
        seen = replace(seen, truth={name: values + offset for name, values in seen.truth.items()})
        seen = with_score(with_score(seen, "RankMe/pooled", seen.truth["phone"] - offset), "RankMe/frames", offset)
        (folder / "report").mkdir(parents=True)
        write(seen, folder / "report/checkpoints.csv")
    config = composed(f"report.chosen_in=[{folders[0]},{folders[1]}]", "report.bootstraps=20").report
    table = Fresh.of(results(1), config).lines("phone", config)
    assert "the 40 checkpoints of" in table[0]
    assert sum("`RankMe/pooled`" in line for line in table) == 1
    assert not any("RankMe/frames" in line for line in table)


def test_where_no_zoo_chose_nothing_is_said_of_it():
    assert Fresh.of(results(), composed().report) is None


# ---- layers


def layers(scores, phones, bad="", name="run_0"):
    run = SimpleNamespace(name=name, objective="apc", bad=bad)
    accuracy = np.array(phones)
    return report_layers.Layers(
        SimpleNamespace(run=run, step=1), np.array(scores, dtype=float), {PHONE: accuracy, VOICE: accuracy}
    )


def test_which_layer_is_taken():
    of_three = layers([[1, 5], [3, 5], [2, 6]], [0.30, 0.34, 0.345])
    # The first score takes the middle layer, the second the top; lowest, output, any.
    assert report_layers.losses(of_three, PHONE) == pytest.approx([0.005, 0, 0.045, 0, 0.345 - 0.985 / 3])
    # Middle over lowest and top over lowest are asked; middle and top are too close.
    right, pairs = report_layers.told_apart(of_three, PHONE)
    assert pairs == 2
    assert right.tolist() == [2, 1.5]


def test_layers_of_bad_runs_and_single_ones_choose_nothing():
    every = [layers([[1.0], [2.0]], [0.2, 0.1]), layers([[1.0], [2.0]], [0.1, 0.9], bad="noise", name="run_1")]
    every.append(layers([[4.0]], [0.9], name="run_2"))
    table = report_layers.choice_lines(["score"], every, PHONE, times=10)
    assert table[0].startswith("1 honest checkpoints have several layers, 2 in all; 1 pairs")
    assert "| the highest of `score` | 10.0 [10.0, 10.0] | 0 % [0 %, 0 %] |" in table
    assert "| always the lowest | 0.0 [0.0, 0.0] | - |" in table
    # Over all models: outputs rank 2, 2, 4 by 0.1, 0.9, 0.9; highest layers the same by 0.2, 0.9, 0.9.
    (row,) = report_layers.zoo_lines(["score"], every, PHONE, times=10)[2:]
    expected = scipy.stats.spearmanr([2, 2, 4], [0.1, 0.9, 0.9]).statistic
    assert row.startswith(f"| `score` | {expected:+.2f} [")


# ---- speech


def test_channel_does_what_it_says():
    waveform = torch.sin(2 * math.pi * 4000 * torch.arange(16000) / 16000)
    tilted = Channel(tilt_db=(3.0, 3.0), snr_db=(200.0, 200.0)).apply(waveform, "a")
    assert 20 * math.log10(tilted.std() / waveform.std()) == pytest.approx(6, abs=0.1)  # two octaves above 1 kHz
    noisy = Channel(snr_db=(10.0, 10.0)).apply(waveform, "a")
    assert 20 * math.log10(waveform.std() / (noisy - waveform).std()) == pytest.approx(10, abs=0.2)
    assert torch.equal(VARYING.apply(waveform, "a"), VARYING.apply(waveform, "a"))
    assert not torch.equal(VARYING.apply(waveform, "a"), VARYING.apply(waveform, "b"))


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    return SynthesisedCorpora(
        voices={TRAIN: ["m1", "f1"], SCORE: ["m2", "Andy"], TRUTH: ["m3", "linda"]},
        utterances={TRAIN: 16, SCORE: 16, TRUTH: 24},
        channels={TRAIN: VARYING, SCORE: VARYING, TRUTH: None},
        languages=("en-us", "de"),
        root=str(tmp_path_factory.mktemp("espeak")),
    )


def test_parts_share_neither_voices_nor_sentences(corpora):
    parts = [corpora.load(part) for part in (TRAIN, SCORE, TRUTH)]
    for field in ("voice", "text"):
        sets = [{getattr(each.utterance, field) for each in part} for part in parts]
        assert len(set.union(*sets)) == sum(map(len, sets))
    with pytest.raises(ValueError, match="m1 given twice"):
        SynthesisedCorpora({TRAIN: ["m1"], SCORE: ["m1"], TRUTH: ["m2"]}, dict.fromkeys((TRAIN, SCORE, TRUTH), 4))
    with pytest.raises(ValueError, match="expected train, score, truth"):
        SynthesisedCorpora({TRAIN: ["m1"]}, {TRAIN: 4})


def test_noise_has_the_level_of_the_speech_and_nothing_else(corpora):
    recordings = corpora.recordings(TRAIN)
    data = ZooData(recordings, recordings, batch_size=4, crop_seconds=1.0, noise=True)
    data.setup()
    speech, noise = recordings[0].read(), data._parts[0][0].read()
    assert noise.std() == pytest.approx(float(speech.std()), rel=0.05)
    assert abs(float((noise[1:] * noise[:-1]).mean() / noise.square().mean())) < 0.05


def test_segments_are_heard_in_every_view(corpora):
    recordings = corpora.load(SCORE)
    cutter = SegmentCutter(varied=PLAIN, fixed=PLAIN, strong=PLAIN)
    segments = cutter(recordings)
    every = torch.arange(len(segments.groups))
    for view, names in VIEWS.items():
        length = {SHORT: 3200, BRIEF: 4000, LONG: 16000}.get(view, 8000)
        assert cutter.seconds[view] * 16000 == length
        assert segments.views[view].shape == (len(segments.rows[view]), len(names), length)
        assert view == LONG or torch.equal(segments.rows[view], every)

    def of(view, name):
        return segments.views[view][:, VIEWS[view].index(name)].int()

    # Where all channels are plain, views differ by the rounding of their noise only.
    assert (of(VARIED, FAR) - of(FIXED, FAR)).abs().max() <= 1
    assert (of(VARIED, NEAR) - of(INDEPENDENT, NEAR)).abs().max() <= 1
    assert (of(SHORT, ANCHOR) - of(VARIED, ANCHOR)[:, -3200:]).abs().max() <= 1
    assert (of(SHORT, NEAR) - of(VARIED, NEAR)[:, :3200]).abs().max() <= 1
    assert (of(BRIEF, ANCHOR) - of(VARIED, ANCHOR)[:, -4000:]).abs().max() <= 1
    assert (of(BRIEF, FAR) - of(VARIED, FAR)[:, :4000]).abs().max() <= 1
    assert (of(HARSH, FAR) - of(VARIED, FAR)).abs().max() <= 1
    assert (of(INDEPENDENT, LATER) - of(VARIED, LATER)).abs().max() <= 1
    # Long segments hold the others, and are where a second lies on both sides of the border.
    rows = segments.rows[LONG]
    assert 0 < len(rows) < len(every)
    assert (of(LONG, ANCHOR)[:, 8000:] - of(VARIED, ANCHOR)[rows]).abs().max() <= 1
    assert (of(LONG, NEAR)[:, :8000] - of(VARIED, NEAR)[rows]).abs().max() <= 1
    lengths = {r.utterance.id: len(r.read()) / 16000 for r in recordings}
    room = [
        1 <= end <= lengths[segments.utterances[group].id] - 1
        for end, group in zip(segments.ends.tolist(), segments.groups.tolist(), strict=True)
    ]
    assert rows.tolist() == [row for row, fits in enumerate(room) if fits]
    # The neighbour begins where the anchor ends.
    owner = recordings[[r.utterance for r in recordings].index(segments.utterances[segments.groups[0]])].read()
    start = round(float(segments.ends[0]) * 16000)
    assert (of(VARIED, NEAR)[0] - (owner[start : start + 8000] * 32768).round().int()).abs().max() <= 1
    # Another speed: the same at the border, and not the same otherwise.
    assert (of(REVOICED, ANCHOR) - of(REVOICED, AGAIN)).abs().float().mean() > 100
    assert len(segments.groups.unique()) == len(segments.utterances)


def test_poolings(corpora):
    segments = SegmentCutter(varied=VARYING, fixed=PLAIN, strong=VARYING)(corpora.load(SCORE)[:3])

    def encode(waveforms):
        return waveforms.unfold(1, 400, 400).square()  # (B, 20, 400)

    embedded = embed(encode, segments, dict.fromkeys(VIEWS, 0.5) | {SHORT: 0.2})
    assert embedded.is_finite()
    anchors = encode(segments.views[VARIED][:, 0].float() / 32768)
    nears = encode(segments.views[VARIED][:, 1].float() / 32768)
    torch.testing.assert_close(embedded.of(VARIED, ANCHOR, MEAN), anchors.mean(1))
    torch.testing.assert_close(embedded.of(VARIED, ANCHOR, FRAME), anchors[:, -1])
    torch.testing.assert_close(embedded.of(VARIED, NEAR, FRAME), nears[:, 0])
    torch.testing.assert_close(embedded.of(VARIED, ANCHOR, EDGE), anchors[:, -3:].mean(1))
    torch.testing.assert_close(embedded.of(VARIED, NEAR, EDGE), nears[:, :3].mean(1))
    again = encode(segments.views[REVOICED][:, 3].float() / 32768)
    torch.testing.assert_close(embedded.of(REVOICED, AGAIN, FRAME), again[:, -1])
    assert embedded.frames.shape == (len(segments.groups), FRAMES_PER_ANCHOR, 400)
    side_by_side = torch.cat([anchors[:, -1], anchors.mean(1)], dim=1)
    torch.testing.assert_close(embedded.of(VARIED, ANCHOR, BOTH), side_by_side)
    torch.testing.assert_close(embedded.of(VARIED, ANCHOR, CONTEXT), side_by_side)
    torch.testing.assert_close(embedded.of(VARIED, NEAR, CONTEXT), nears[:, 0])


def test_every_setting_has_a_name_of_its_own_and_a_twin_that_is_far():
    every = list(settings())
    assert len({setting.name for setting in every}) == len(every)
    twins = {setting for setting in every if replace(setting, partner=FAR) in every}
    assert all(setting.among == LONG or setting.view == LONG for setting in set(every) - twins)


# ---- truth


def test_probe_accuracy():
    labels = np.array(["a", "b", "c"])[np.arange(600) % 3]
    x = np.eye(3)[np.arange(600) % 3] + 0.1 * np.random.default_rng(0).normal(size=(600, 3))
    side = (np.arange(600) < 300).astype(int)
    assert probe_accuracy(x, labels, side) == 1
    noise = np.random.default_rng(1).normal(size=(600, 3))
    assert probe_accuracy(noise, labels, side) == pytest.approx(1 / 3, abs=0.08)
    assert probe_accuracy(np.full((600, 3), np.nan), labels, side) == 0


def test_probes_are_tested_on_what_they_have_not_seen(corpora):
    speech = truth_speech(corpora.recordings(TRUTH), corpora.halves, crop_seconds=1.6, frames=8)
    assert speech.waveforms.shape == (len(speech.voices), 25600)
    for truth in (PHONE, LANGUAGE):
        assert not set(speech.voices[speech.halves[truth] == 0]) & set(speech.voices[speech.halves[truth] == 1])
    for voice in set(speech.voices):
        halves = speech.halves[VOICE][speech.voices == voice]
        assert abs(int(halves.sum()) - len(halves) / 2) <= 0.5
    assert bool((speech.seconds < 1.6).all())


def test_phone_at():
    phones = (("a", 0.0, 0.1), ("b", 0.2, 0.3))
    assert [phone_at(phones, t) for t in (0.05, 0.15, 0.2, 0.3)] == ["a", None, "b", None]


def test_truth_leaves_out_what_is_too_short():
    utterance = Utterance("x", phones=(("a", 0.0, 1.0),))
    long, short = (Recording(utterance, lambda n=n: torch.ones(n)) for n in (16000, 8000))
    speech = truth_speech([long, short, long], SynthesisedCorpora.halves, crop_seconds=0.9, frames=2)
    assert len(speech.waveforms) == 2


# ---- the programs


@pytest.mark.parametrize("name", ["small", "full"])
def test_zoos_compose_and_build(name):
    config = composed(f"zoo={name}")
    every = runs(config)
    assert {run.objective for run in every} == {"apc", "hubert", "cpc"}
    assert any(run.bad for run in every)
    for run in every:
        assert sum(p.numel() for p in run.build().parameters()) > 1000
    if name == "full":
        assert sum(len(run.steps) for run in every) >= 60
        for kind in ("apc", "hubert", "cpc"):
            assert sum(run.objective == kind and not run.bad for run in every) >= 3


def test_a_run_of_no_objective_is_an_error():
    with pytest.raises(ValueError, match=r"runs.apc.objective: got 'acp'"):
        runs(composed("zoo=small", "runs.apc.objective=acp"))


def call(program, config):
    """Run a program's ``main`` without Hydra's command line."""
    try:
        return program.main.__wrapped__(config)
    finally:
        HydraConfig.instance().cfg = None


@pytest.mark.slow
def test_the_small_zoo(tmp_path, capsys):
    """Train, score and report; and again, which has nothing left to do; and a run that goes on."""
    overrides = [
        "zoo=small",
        f"folder={tmp_path / 'zoo'}",
        f"speech.root={tmp_path / 'cache'}",
        "speech.utterances={train: 160, score: 200, truth: 200}",
        "report.bootstraps=100",
        "report.splits=20",
    ]
    config = composed(*overrides, "steps=[5,20]")
    call(train_zoo, config)
    every = list(trained(config))
    assert len(every) == sum(len(run.steps) for run in runs(config)) == 15
    before = {checkpoint.name: checkpoint.run.checkpoint(checkpoint.step).stat().st_mtime for checkpoint in every}
    config = composed(*overrides, "steps=[5,20,30]", "only=apc*")
    call(train_zoo, config)
    after = list(trained(config))
    assert len(after) == 17
    for checkpoint in after:
        made = checkpoint.run.checkpoint(checkpoint.step).stat().st_mtime
        assert made == before.get(checkpoint.name, made)
    call(score_zoo, config)
    call(report, config)
    table = (tmp_path / "zoo/report/table.md").read_text()
    assert "17 checkpoints of 9 runs" in table
    for part in ("Phone accuracy", "Voice accuracy", "RankMe", "any of ours", "validation loss"):
        assert part in table
    assert (tmp_path / "zoo/report/model_selection.png").stat().st_size > 10_000
    lines = (tmp_path / "zoo/report/checkpoints.csv").read_text().splitlines()
    assert len(lines) == 18
    call(
        report,
        composed(*overrides, "report.chosen_in=[${folder}]", "report.together_with=[]", "report.name=again"),
    )
    assert "chosen, any bound" in (tmp_path / "zoo/again/table.md").read_text()
    scores = sorted((tmp_path / "zoo/scores").glob("*.json"))
    stamps = [path.stat().st_mtime for path in scores]
    call(score_zoo, config)
    assert [path.stat().st_mtime for path in scores] == stamps

    # A grid that has grown: what was scored stays, and the rest is as if it had been there from the start.
    grown = scores[0]
    found = json.loads(grown.read_text())
    missing = {name: score for name, score in found["scores"].items() if f"/{HARSH}/" in name}
    assert missing
    kept = {name: {"value": 9.0, "stderr": 0.0} for name in found["scores"] if name not in missing}
    grown.write_text(json.dumps(found | {"scores": kept}))
    path = tmp_path / f"zoo/embeddings/{grown.stem}.pt"
    embeddings = torch.load(path)
    pooled = {key: z[:, :3] if key[0] == INDEPENDENT else z for key, z in embeddings["pooled"].items()}
    torch.save(embeddings | {"pooled": {key: z for key, z in pooled.items() if key[0] != HARSH}}, path)
    call(score_zoo, config)
    again = json.loads(grown.read_text())["scores"]
    assert {name: again[name] for name in kept} == kept
    assert {name: again[name] for name in missing} == missing
    for key, z in torch.load(path)["pooled"].items():
        assert torch.equal(z, embeddings["pooled"][key])

    for program in (score_layers, report_layers, report_settings, report_clusters):
        call(program, config)
    header, _, *rows = [
        line for line in (tmp_path / "zoo/report/settings.md").read_text().splitlines() if line.startswith("|")
    ]
    assert header == "| changed | frames: phones | frames: voices | means: phones | means: voices |"
    assert len(rows) == len(report_settings.CHANGES)
    made = read(tmp_path / "zoo/report/checkpoints.csv")
    values = made.scores[:, made.names.index(DEFAULT)]
    assert f"| {scipy.stats.spearmanr(values, made.truth[PHONE]).statistic:+.2f}, " in rows[0]
    assert "| 128 | " in (tmp_path / "zoo/report/clusters.md").read_text()
    table = (tmp_path / "zoo/report/layers.md").read_text()
    assert "Layers of 17 checkpoints" in table
    # The top layer is the model's output, whose scores and accuracies are made by another program.
    for path in sorted((tmp_path / "zoo/layers").glob("*.json")):
        *_, top = json.loads(path.read_text()).values()
        scored = json.loads((tmp_path / "zoo/scores" / path.name).read_text())["scores"]
        for name, score in top["scores"].items():
            if path.stem != grown.stem:
                assert score["value"] == pytest.approx(scored[name]["value"], abs=1e-6)
        truth = json.loads((tmp_path / "zoo/truth" / path.name).read_text())
        assert top["truth"] == {name: truth[name] for name in (PHONE, VOICE)}
