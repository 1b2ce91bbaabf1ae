"""The bounds are the package's, of the segments that their settings name."""

import pytest
import torch

pytest.importorskip("torchaudio")
pytest.importorskip("sklearn")

from lightning_mi import labeled_mi_bound, mi_bound
from lightning_mi.examples.data.utterances import Utterance
from lightning_mi.examples.model_selection.scores.bounds import (
    above_far,
    bound_scores,
    estimate_bound,
    labelled_bounds,
)
from lightning_mi.examples.model_selection.scores.conditions import (
    ANCHOR,
    CONDITIONS,
    FAR,
    INDEPENDENT,
    LONG,
    NEAR,
    SAME,
    SHARED,
    VIEW_LATER,
    VIEWS,
)
from lightning_mi.examples.model_selection.scores.embed import BOUNDARY, CENTER, MEAN, POOLINGS, Embedded
from lightning_mi.examples.model_selection.scores.grid import CONTENT, DEFAULT, PAPER, Setting
from lightning_mi.examples.model_selection.scores.segments import Segments

COUNT = 400


@pytest.fixture(scope="module")
def segments():
    groups = torch.arange(COUNT) // 2
    rows = {name: torch.arange(COUNT) for name in CONDITIONS} | {LONG: torch.arange(0, COUNT, 2)}
    utterances = [
        Utterance(f"u{i}", "en" if i % 3 else "de", f"s{i % 4}", phones=(("a", 0.0, 0.5), ("b", 0.5, 1.0)))
        for i in range(COUNT // 2)
    ]
    ends = torch.where(torch.arange(COUNT) % 2 == 0, 0.4, 0.9).double()
    return Segments({}, rows, groups, utterances, ends)


@pytest.fixture(scope="module")
def embedded(segments):
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(COUNT, 1, 4, generator=generator)
    pooled = {
        (name, pooling): (
            common[segments.rows[name]]
            + torch.randn(len(segments.rows[name]), len(condition.segments), 4, generator=generator)
        )
        for name, condition in CONDITIONS.items()
        for pooling in POOLINGS
    }
    return Embedded(pooled, torch.randn(COUNT, 4, 4, generator=generator))


def test_a_bound_is_that_of_the_package(embedded, segments):
    anchor, near = embedded.of(SHARED, "anchor", MEAN), embedded.of(SHARED, NEAR, MEAN)
    expected = mi_bound(anchor, near, 32, segments.groups, quantizer="kmeans")
    assert estimate_bound(embedded, segments, PAPER).bound == expected.bound
    score = bound_scores(embedded, segments)[PAPER.name]()
    assert (score.value, score.stderr) == (expected.bound, expected.stderr)


def test_pairs_with_room_are_the_rows_of_the_longer_condition(embedded, segments):
    rows = segments.rows[LONG]
    anchor, near = (embedded.of(INDEPENDENT, name, BOUNDARY)[rows] for name in ("anchor", NEAR))
    expected = mi_bound(anchor, near, 32, segments.groups[rows], quantizer="canonical").bound
    assert estimate_bound(embedded, segments, Setting(among=LONG)).bound == expected
    assert estimate_bound(embedded, segments, DEFAULT, anchors=rows).bound == expected


def test_near_minus_far_is_the_paired_difference(embedded, segments):
    near, far = (estimate_bound(embedded, segments, Setting(partner=name)) for name in (NEAR, FAR))
    score = bound_scores(embedded, segments)[DEFAULT.minus_far]()
    assert score.value == pytest.approx(near.bound - far.bound, abs=1e-6)
    assert 0 < score.stderr < 1


def test_content_is_same_minus_far_and_later_is_added(embedded, segments):
    anchor, *others = (embedded.of(VIEWS, name, CENTER) for name in (ANCHOR, SAME, VIEW_LATER, FAR))
    same, later, far = (mi_bound(anchor, other, 32, segments.groups, quantizer="canonical") for other in others)
    wanted = bound_scores(embedded, segments)
    assert wanted[CONTENT.name]().value == same.bound
    content, late, both = (
        wanted[name]()
        for name in (CONTENT.minus_far, Setting(VIEWS, VIEW_LATER, CENTER).minus_far, CONTENT.with_later)
    )
    assert (content.value, content.stderr) == same.scores.gain_over(far.scores)
    assert (late.value, late.stderr) == later.scores.gain_over(far.scores)
    assert both.value == pytest.approx(content.value + late.value, abs=1e-12)
    # The error of a sum of what depends on the same pairs.
    assert abs(content.stderr - late.stderr) < both.stderr <= content.stderr + late.stderr + 1e-9
    assert above_far([same, same], far).stderr == pytest.approx(2 * content.stderr)


def test_labelled_bounds_are_those_of_the_utterances_labels(embedded, segments):
    found = labelled_bounds(embedded, segments)
    assert set(found) == {"phone", "speaker", "language"}
    targets = segments.groups % 4
    expected = labeled_mi_bound(embedded.of(SHARED, "anchor", MEAN), targets, segments.groups)
    assert found["speaker"].value == expected.bound
    phones = torch.arange(COUNT) % 2  # anchors that end at 0.4 s and at 0.9 s
    expected = labeled_mi_bound(embedded.of(SHARED, "anchor", BOUNDARY), phones, segments.groups)
    assert found["phone"].value == expected.bound
