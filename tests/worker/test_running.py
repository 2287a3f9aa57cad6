"""The attempts that run, and the waits for them."""

import threading
import time
from uuid import uuid4

from gridapps.runs.queue import Claim
from gridapps.worker.running import RunningAttempts


def claim() -> Claim:
    return Claim(task=uuid4(), run=uuid4(), index=0, attempt=1, token=uuid4())


def seconds_until(attempts: RunningAttempts, timeout: float) -> float:
    began = time.monotonic()
    attempts.wait_for_any(timeout)
    return time.monotonic() - began


def test_a_wait_ends_when_an_attempt_begins() -> None:
    attempts = RunningAttempts()
    threading.Timer(0.05, lambda: attempts.add(claim())).start()
    assert seconds_until(attempts, 30) < 20


def test_without_attempts_a_wait_takes_its_time_again() -> None:
    attempts, mine = RunningAttempts(), claim()
    attempts.add(mine)
    assert seconds_until(attempts, 30) < 20
    attempts.remove(mine)
    assert not attempts
    assert seconds_until(attempts, 0.2) >= 0.2


def test_closed_it_never_waits() -> None:
    attempts, mine = RunningAttempts(), claim()
    attempts.add(mine)
    attempts.close()
    attempts.remove(mine)
    assert seconds_until(attempts, 30) < 20


def test_one_that_waits_is_seen() -> None:
    attempts, mine = RunningAttempts(), claim()
    attempts.add(claim())
    assert not attempts.any_waiting()
    attempts.add(mine).waiting.set()
    assert attempts.any_waiting()
    assert (mine.task, 1) in attempts.task_attempts()
