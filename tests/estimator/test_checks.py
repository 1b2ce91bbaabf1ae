"""Errors of the argument checks, by their text."""

import pytest
import torch

from lightning_mi.estimator import checks


@pytest.mark.parametrize(
    ("check", "error", "message"),
    [
        (
            lambda: checks.check_embeddings("z", [1.0]),
            TypeError,
            "`z` must be a torch.Tensor of shape .* got list",
        ),
        (lambda: checks.check_embeddings("z", torch.zeros(3, 2).int()), TypeError, "got dtype torch.int32"),
        (lambda: checks.check_embeddings("z", torch.zeros(3)), ValueError, r"got \(3,\)"),
        (lambda: checks.check_finite("z", torch.tensor([[torch.nan], [0.0]])), ValueError, "in 1 of 2 rows"),
        (lambda: checks.check_integer_vector("g", torch.zeros(3, dtype=torch.bool), 3), TypeError, "torch.bool"),
        (
            lambda: checks.check_integer_vector("g", torch.zeros(2).long(), 3),
            ValueError,
            r"shape \(3,\), got \(2,\)",
        ),
        (lambda: checks.check_same_rows("b", 3, "a", 4), ValueError, "`a` and `b` must have .* got 4 and 3"),
        (lambda: checks.check_positive_int("k", 0), ValueError, "`k` must be at least 1, got 0"),
        (lambda: checks.check_positive_int("k", True), TypeError, "`k` must be an int, got True"),
        (lambda: checks.check_int("seed", 1.0), TypeError, "`seed` must be an int, got 1.0"),
        (lambda: checks.check_seed(1.0), TypeError, "`seed` must be an int, got 1.0"),
        (lambda: checks.check_seed(2**63), ValueError, "`seed` must be from"),
        (
            lambda: checks.check_bool("null_control", "no"),
            TypeError,
            "`null_control` must be True or False, got 'no'",
        ),
        (
            lambda: checks.check_positive_number("rate", 0, "Hz"),
            ValueError,
            "`rate` must be a positive number of Hz",
        ),
        (lambda: checks.check_positive_number("rate", "1", "Hz"), TypeError, "`rate` must be a number of Hz"),
        (
            lambda: checks.check_choice("how", "x", ("a", "b")),
            ValueError,
            "`how` must be one of 'a', 'b', got 'x'",
        ),
    ],
)
def test_errors_name_the_argument_what_came_and_what_was_expected(check, error, message):
    with pytest.raises(error, match=message):
        check()


def test_good_values_pass():
    checks.check_embeddings("z", torch.zeros(3, 2))
    checks.check_finite("z", torch.zeros(0, 2))
    checks.check_integer_vector("g", torch.zeros(3, dtype=torch.int32), 3)
    checks.check_positive_number("rate", 1, "Hz")
    checks.check_choice("how", "a", ("a", "b"))
