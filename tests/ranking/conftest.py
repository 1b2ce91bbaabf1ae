"""Rankings that the tests of this folder read."""

import pytest
import torch

from tests.helpers.support import TinySpeechModel
from tests.ranking.models import rank, three_models


@pytest.fixture(scope="module")
def ranking():
    torch.manual_seed(0)
    return rank(three_models())


@pytest.fixture(scope="module")
def parts_ranking():
    torch.manual_seed(0)
    models = {"b": TinySpeechModel(), "a": TinySpeechModel()}
    return rank(models, embed="predict", layers=["rnn", "head"], gap_seconds=["near", 0.25])
