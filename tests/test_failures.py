"""What the failures of several processes mean together."""

import pytest
import torch

from lightning_mi.failures import Failures, NoEstimateError


def failing(error):
    failures = Failures()
    if error is not None:

        def step():
            raise error

        failures.attempt(step)
    return failures


def test_the_first_error_is_kept_and_nothing_is_done_after_it():
    failures, done = failing(ValueError("first")), []
    assert failures.attempt(lambda: done.append(1)) is None
    assert done == []
    assert failures.reason == "ValueError: first"


BROKEN, ODD = RuntimeError("lost a cable"), ValueError("odd file")
FINE, FAILS = (True, None), (True, ("RuntimeError: lost a cable", False))
IS_ODD, IDLE = (True, ("ValueError: odd file", True)), (False, None)


def decide(monkeypatch, error, everyone):
    """The decision of the process that met ``error``, where ``everyone`` is what all processes gathered."""
    monkeypatch.setattr("lightning_mi.failures.gather", lambda own: everyone)
    failing(error).raise_or_skip(has_called_the_model=True)


def test_no_failure_is_no_decision(monkeypatch):
    decide(monkeypatch, None, [FINE, FINE, IDLE])


def test_an_exception_of_some_is_raised_where_it_was_met_and_quoted_elsewhere(monkeypatch):
    with pytest.raises(RuntimeError) as raised:
        decide(monkeypatch, BROKEN, [FINE, FAILS])
    assert raised.value is BROKEN
    with pytest.raises(RuntimeError, match=r"Another process failed.*RuntimeError: lost a cable"):
        decide(monkeypatch, None, [FINE, FAILS])


@pytest.mark.parametrize(
    "everyone",
    [[FINE, IS_ODD], [FAILS, FAILS], [FAILS, IDLE], [FAILS, IS_ODD]],
    ids=["odd", "all", "idle", "both"],
)
def test_bad_input_or_an_exception_of_all_is_no_estimate(monkeypatch, everyone):
    with pytest.raises(NoEstimateError):
        decide(monkeypatch, BROKEN, everyone)


@pytest.mark.parametrize(
    ("error", "is_bad_input"),
    [
        (ValueError("x"), True),
        (torch.OutOfMemoryError("x"), True),
        (MemoryError("x"), True),
        (OSError("x"), False),
    ],
)
def test_what_data_and_settings_bring_about_is_bad_input(monkeypatch, error, is_bad_input):
    seen = []
    monkeypatch.setattr("lightning_mi.failures.gather", lambda own: seen.append(own) or [own, FINE])
    with pytest.raises(NoEstimateError if is_bad_input else OSError):
        failing(error).raise_or_skip(has_called_the_model=True)
    assert seen == [(True, (f"{type(error).__name__}: x", is_bad_input))]
