"""Every quantiser with every probe."""

import math
from typing import get_args

import pytest
import torch

from lightning_mi import mi_bound
from lightning_mi.estimator.registry import PROBES, QUANTIZERS, ProbeName, QuantizerName
from tests.helpers.draws import gaussian


def test_names_are_those_of_the_literals():
    assert tuple(QUANTIZERS) == get_args(QuantizerName)
    assert tuple(PROBES) == get_args(ProbeName)


@pytest.mark.parametrize("quantizer", QUANTIZERS)
@pytest.mark.parametrize("probe", PROBES)
def test_every_choice_is_below_the_truth_and_zero_for_shuffled_pairs(quantizer, probe):
    a, b, truth = gaussian(1500, 3, 0.9)
    estimate = mi_bound(a, b, 16, quantizer=quantizer, probe=probe)
    assert 0.5 * truth < estimate.bound < truth
    apart = mi_bound(a, b[torch.randperm(1500)], 16, quantizer=quantizer, probe=probe)
    assert apart.bound <= 3 * apart.stderr


@pytest.mark.parametrize("quantizer", QUANTIZERS)
@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("rows", [4, 60])
def test_every_choice_bounds_degenerate_embeddings(quantizer, probe, rows):
    constant, line = torch.ones(rows, 40), torch.randn(rows, 1) @ torch.randn(1, 40)
    assert mi_bound(constant, constant, 2, quantizer=quantizer, probe=probe).bound == 0
    assert mi_bound(line, line, 2, quantizer=quantizer, probe=probe).bound <= math.log(2)
    assert mi_bound(line, line, 2, torch.arange(rows) // (rows // 2), quantizer=quantizer, probe=probe).bound < 0.7


@pytest.mark.parametrize("name", ["quantizer", "probe"])
def test_an_unknown_name_is_an_error_that_lists_the_known_ones(name):
    z = torch.randn(50, 2)
    with pytest.raises(ValueError, match=rf"`{name}` must be one of '\w+', '\w+', '\w+', got 'kmean'"):
        mi_bound(z, z, 2, **{name: "kmean"})
