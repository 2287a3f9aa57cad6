"""When a periodic action is due, on a clock that the tests set."""

import math
from types import SimpleNamespace

import pytest

from gridapps.worker import periodic
from gridapps.worker.periodic import Periodic


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(periodic, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


def run_at(clock: Clock, job: Periodic, *times: float) -> None:
    for at in times:
        clock.now = 1000.0 + at
        job.run_if_due()


def test_it_is_due_at_once_and_then_after_each_period(clock: Clock) -> None:
    taken: list[float] = []
    run_at(clock, Periodic(lambda: taken.append(clock.now - 1000), every=10), 0, 1, 9.9, 10, 11, 20)
    assert taken == [0, 10, 20]


@pytest.mark.parametrize(("every", "times"), [(0, 3), (math.inf, 1)])
def test_no_period_means_each_time_and_infinity_once(clock: Clock, every: float, times: int) -> None:
    taken: list[float] = []
    run_at(clock, Periodic(lambda: taken.append(clock.now), every=every), 0, 0, 10**9)
    assert len(taken) == times


def test_the_condition_makes_it_due_earlier_but_not_within_the_pause(clock: Clock) -> None:
    taken: list[float] = []
    job = Periodic(lambda: taken.append(clock.now - 1000), every=100, early=lambda: clock.now > 1020, pause=5)
    run_at(clock, job, 0, 19, 21, 24, 26)
    assert taken == [0, 21, 26]


def test_hastened_it_is_due_once_more(clock: Clock) -> None:
    taken: list[float] = []
    job = Periodic(lambda: taken.append(clock.now - 1000), every=100, pause=50)
    run_at(clock, job, 0)
    job.hasten()
    run_at(clock, job, 1, 2)
    assert taken == [0, 1]


def test_an_action_that_fails_stays_due(clock: Clock) -> None:
    """Also one that was hastened."""
    faults = [None, OSError("first"), OSError("second"), None]

    def act() -> None:
        if (fault := faults.pop(0)) is not None:
            raise fault

    job = Periodic(act, every=100)
    run_at(clock, job, 0)
    job.hasten()
    for at, text in ((1, "first"), (2, "second")):
        with pytest.raises(OSError, match=text):
            run_at(clock, job, at)
    run_at(clock, job, 3, 4)
    assert faults == []
