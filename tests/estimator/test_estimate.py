"""An estimate as a number: conversion, equality, text."""

import dataclasses
import math

import pytest

from lightning_mi import MIEstimate, mi_bound
from tests.helpers.draws import gaussian


def test_an_estimate_is_a_frozen_number_with_a_unit():
    estimate = mi_bound(*gaussian(200, 2, 0.9)[:2], num_clusters=4)
    assert float(estimate) == estimate.bound == pytest.approx(estimate.entropy - estimate.cross_entropy)
    assert estimate.ceiling == pytest.approx(math.log(4))
    assert "nats" in str(estimate)
    with pytest.raises(dataclasses.FrozenInstanceError):
        estimate.bound = 1.0


def test_scores_are_neither_shown_nor_compared():
    estimate = mi_bound(*gaussian(200, 2, 0.9)[:2], num_clusters=4)
    bare = dataclasses.replace(estimate, scores=None)
    assert bare == estimate
    assert repr(bare) == repr(estimate)


def test_estimates_without_scores_cannot_be_compared():
    whole = mi_bound(*gaussian(200, 2, 0.9)[:2], num_clusters=4)
    bare = MIEstimate(1.0, 0.1, 2.0, 1.0, 3.0, 8, 8, 100, 100)
    for first, second in ((whole, bare), (bare, whole)):
        with pytest.raises(ValueError, match="hold their `scores`"):
            first.gain_over(second)
