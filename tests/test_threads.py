"""The threads of the user are as they were, behind an estimate and behind a failure."""

import threading
import time

import pytest
import torch

from lightning_mi import labeled_mi_bound, mi_bound, threads
from lightning_mi.estimator import bound
from lightning_mi.estimator.shuffled_bound import null_bound
from lightning_mi.threads import SideBySide, few_threads


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
def test_an_estimate_works_in_one_thread_and_leaves_them(monkeypatch):
    seen = []

    def cross_fit(*arguments):
        seen.append(torch.get_num_threads())
        raise RuntimeError("as a model's embeddings might")

    z = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    mi_bound(z, z, 4)
    labeled_mi_bound(z, torch.arange(64) % 2)
    null_bound(z, z, torch.arange(64), num_clusters=4)
    assert torch.get_num_threads() == 3
    monkeypatch.setattr(bound, "cross_fit", cross_fit)
    with pytest.raises(RuntimeError, match="might"):
        mi_bound(z, z, 4)
    assert seen == [1]
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize(
    ("num_elements", "free", "expected"),
    [(0, 9, 1), (1 << 19, 9, 1), (1 << 20, 9, 2), (1 << 40, 9, 3), (1 << 40, 2, 2), (1 << 40, 1, 1)],
)
def test_threads_grow_with_the_work_up_to_the_users_number_on_free_cores(
    num_elements, free, expected, monkeypatch
):
    monkeypatch.setattr(threads, "free_cores", lambda: free)
    with few_threads(num_elements):
        assert torch.get_num_threads() == expected
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize(("readings", "free"), [("1", 4), ("4321", 4), ("3222", 3), ("9999", 1), ("x", None)])
def test_free_cores_are_those_that_nobody_else_runs_on(readings, free, tmp_path, monkeypatch):
    """With this thread among the running; a thread that spins for a moment is in some readings only."""
    file = tmp_path / "loadavg"
    monkeypatch.setattr(threads, "_LOAD", file)
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda process: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(threads.os, "getloadavg", lambda: (1.2, 0.0, 0.0))
    monkeypatch.setattr(threads, "_READINGS", len(readings))
    left = iter(readings)
    monkeypatch.setattr(threads.time, "sleep", lambda seconds: file.write_text(f"0 0 0 {next(left)}/99 1"))
    assert threads.free_cores() == (3 if free is None else free)


def test_works_run_side_by_side_and_no_more_at_once_than_asked_for():
    meet = threading.Barrier(2, timeout=20)  # both must run for either to pass
    with SideBySide(2) as works:
        for name in range(4):
            works.start(name, lambda name=name: meet.wait() >= 0 and name)
        assert works.results() == {0: 0, 1: 1, 2: 2, 3: 3}
    running, most = set(), []

    def work(name):
        running.add(name)
        most.append(len(running))
        time.sleep(0.01)
        running.remove(name)

    with SideBySide(3) as works:
        for name in range(9):
            works.start(name, lambda name=name: work(name))
        works.results()
    assert max(most) <= 3


@pytest.mark.usefixtures("three_threads")
def test_a_work_beside_others_has_one_thread_and_the_user_all_of_them_again():
    with SideBySide(2) as works:
        works.start("first", torch.get_num_threads)
        works.start("second", torch.get_num_threads)
        assert works.results() == {"first": 1, "second": 1}
    assert torch.get_num_threads() == 3


def test_alone_a_work_stays_in_its_thread_and_a_failure_is_raised():
    with SideBySide(1) as works:
        works.start("here", threading.current_thread)
        assert works.results() == {"here": threading.main_thread()}
    with SideBySide(2) as works:
        works.start("bad", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            works.results()


@pytest.mark.parametrize("inference", [False, True])
def test_inference_mode_goes_along(inference):
    with torch.inference_mode(inference), SideBySide(2) as works:
        works.start("mode", torch.is_inference_mode_enabled)
        assert works.results() == {"mode": inference}


def test_what_still_runs_is_stopped():
    ended = threading.Event()

    def endless():
        try:
            while True:
                time.sleep(0.001)
        finally:
            ended.set()

    with pytest.raises(KeyboardInterrupt), SideBySide(2) as works:
        works.start("endless", endless)
        time.sleep(0.05)
        raise KeyboardInterrupt
    assert ended.wait(10)
