"""Data that differ from one validation to the next: said once, with the count, and no gain of what is not the same."""

import pytest
import torch

from lightning_mi.controls.fingerprints import fingerprint
from lightning_mi.controls.near_duplicates import group_near_duplicates
from lightning_mi.reporting.recurrence import LastPairs, Recurrence
from tests.helpers.models import Utterances, loader
from tests.helpers.run_callback import run_callback
from tests.helpers.speech import utterances

MOVES = "pairs of segments of this validation in the one before"


class RandomCrops(Utterances):
    """A crop of each utterance that starts elsewhere at every visit, the first ``num_fixed`` excepted."""

    num_fixed = 0

    def __init__(self, x):
        super().__init__(x)
        self.generator = torch.Generator().manual_seed(0)

    def __getitem__(self, index):
        start = torch.randint(1, 500, (), generator=self.generator)
        return self.x[index, 0 if index < self.num_fixed else start :][:1500]


def fit(data, **arguments):
    return run_callback(fn="fit", data=data, trainer={"max_epochs": 3}, **arguments)


def said(run):
    return [text for text in run.warnings if MOVES in text]


def data_of(num_fixed, count=200):
    made = RandomCrops(utterances(count))
    made.num_fixed = num_fixed
    return torch.utils.data.DataLoader(made, batch_size=40)


def test_random_crops_of_all_utterances_are_said_once_and_have_no_gain():
    run = fit(data_of(0))
    (text,) = said(run)
    assert "finds 0 of 200 " + MOVES in text
    assert "no `gain` is logged" in text
    assert all(word in text for word in ("random crop", "`shuffle=False`", "`limit_val_batches`"))
    assert not any("mi_bound/gain" in epoch for epoch in run.epochs)


def test_speakers_that_recur_do_not_make_a_gain_of_other_utterances():
    def with_speakers(batch):
        return batch, None, batch[:, 0].abs().mul(1e6).long() % 20

    run = fit(data_of(0), batch_to_waveforms=with_speakers)
    assert len(said(run)) == 1
    assert not any("mi_bound/gain" in epoch for epoch in run.epochs)


def test_a_gain_of_what_recurs_is_that_of_these_utterances_alone():
    run = fit(data_of(80))
    (text,) = said(run)
    assert "finds 80 of 200 " + MOVES in text
    assert "`gain` compares what is in both" in text
    first, second = (next(iter(each.values())).scores for each in run.estimates[:2])
    shared = sorted(set(first.groups.tolist()) & set(second.groups.tolist()))
    assert len(shared) == 80

    def mean(scores):
        rows = [scores.groups.tolist().index(name) for name in shared]
        return float(scores.totals[rows].sum() / scores.counts[rows].sum())

    assert run.epochs[1]["mi_bound/gain"] == pytest.approx(mean(second) - mean(first), abs=1e-5)


def test_a_few_that_recur_by_chance_make_no_gain():
    run = fit(data_of(10))
    assert len(said(run)) == 1
    assert not any("mi_bound/gain" in epoch for epoch in run.epochs)


def test_shuffled_subsets_of_a_large_set():
    data = loader(utterances(600), batch_size=40, shuffle=True)
    torch.manual_seed(0)
    run = run_callback(fn="fit", data=data, trainer={"max_epochs": 3, "limit_val_batches": 3})
    (text,) = said(run)
    assert " of 120 " + MOVES in text


@pytest.mark.parametrize("shuffle", [False, True])
def test_the_same_utterances_in_any_order_are_no_moving_data(shuffle):
    run = fit(loader(utterances(120), shuffle=shuffle))
    assert not said(run)
    assert "mi_bound/gain" in run.epochs[1]
    again = fit(loader(utterances(100), shuffle=True, drop_last=True))
    assert not said(again)
    assert "mi_bound/gain" in again.epochs[1]


def test_another_fit_on_other_data_is_no_moving_data():
    first = fit(loader(utterances(120)))
    second = run_callback(fn="fit", data=loader(utterances(120, seed=5)), callback=first.callback)
    assert not said(second)


def test_the_numbers_at_the_thresholds():
    def of(recurring, total):
        return Recurrence(recurring, total)

    assert not of(50, 100).is_small
    assert of(49, 100).is_small
    assert not of(49, 100).is_enough
    assert of(64, 1000).is_enough
    assert of(63, 1000).is_small
    assert not of(63, 1000).is_enough
    last = LastPairs()
    last.recurrence_of(torch.arange(100))
    assert last.recurrence_of(torch.arange(60, 140)) == of(40, 80)
    assert last.recurrence_of(torch.arange(140, 200)) == of(0, 60)


def test_crops_are_copies_of_each_other_only_if_they_share_sound():
    rate, count = 16_000, 12
    generator = torch.Generator().manual_seed(0)
    # A note every 80 ms: what is heard in one part of an utterance is not heard in another.
    hertz = (200 * 2 ** (4 * torch.rand(count, 100, generator=generator))).repeat_interleave(
        rate * 8 // 100, dim=1
    )
    x = torch.sin(2 * torch.pi * (hertz / rate).cumsum(dim=1))
    x += 0.02 * torch.randn(x.shape, generator=generator)

    def links(second_start):
        crops = torch.cat([x[:, : 3 * rate], x[:, second_start:][:, : 3 * rate]])
        names = torch.arange(2 * count)
        prints = fingerprint(crops, torch.full((2 * count,), crops.shape[1]), rate)
        return {tuple(pair) for pair in group_near_duplicates(names, prints)[1].tolist()}

    assert links(round(0.5 * rate)) == {(row, row + count) for row in range(count)}
    assert links(4 * rate) == set()
