"""Judging an end: every reason, and their precedence."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gridapps.sandbox.ending import judge
from gridapps.sandbox.protocol import Ended, Limits, Usage

LIMITS = Limits(cpus=1, memory=512 * 1024**2, disk=1024**3)
GOOD = Ended(
    exit_code=0,
    started_at=datetime(2026, 1, 1, 0, 0, 0, tzinfo=UTC),
    ended_at=datetime(2026, 1, 1, 0, 1, 30, tzinfo=UTC),
    out_of_memory=False,
    out_of_disk=False,
    out_of_processes=False,
    log_dropped=0,
    not_started="",
    usage=Usage(cpu_seconds=1, memory_bytes=1, disk_bytes=1),
)


@pytest.mark.parametrize(
    ("changes", "state", "reason", "words"),
    [
        ({}, "SUCCESS", "", ""),
        ({"exit_code": 3}, "FAILURE", "program-failed", "exit code 3"),
        ({"exit_code": 139}, "FAILURE", "program-failed", "SIGSEGV"),
        ({"exit_code": 137}, "FAILURE", "program-failed", "SIGKILL"),
        ({"exit_code": 200}, "FAILURE", "program-failed", "exit code 200"),
        ({"exit_code": 137, "out_of_memory": True}, "FAILURE", "out-of-memory", "512 MiB"),
        ({"exit_code": 5, "out_of_memory": True}, "FAILURE", "out-of-memory", "exit code 5"),
        ({"exit_code": 0, "out_of_memory": True}, "SUCCESS", "", ""),
        ({"exit_code": 1, "out_of_disk": True}, "FAILURE", "out-of-disk", "1 GiB"),
        ({"exit_code": 0, "out_of_disk": True}, "SUCCESS", "", ""),
        ({"exit_code": 153}, "FAILURE", "out-of-disk", "exit code 153"),
        ({"exit_code": 0, "output_dropped": 9}, "FAILURE", "out-of-disk", "9 bytes of standard output"),
        ({"exit_code": 1, "out_of_processes": True}, "FAILURE", "out-of-processes", "256"),
        ({"exit_code": 0, "out_of_processes": True}, "SUCCESS", "", ""),
        ({"exit_code": 127, "not_started": "No such thing."}, "FAILURE", "image-refused", "No such thing."),
    ],
)
def test_the_facts_decide(changes: dict[str, int], state: str, reason: str, words: str) -> None:
    verdict = judge(replace(GOOD, **changes), canceled=False, past_deadline=False, limits=LIMITS)  # type: ignore[arg-type]
    assert (verdict.state, verdict.reason) == (state, reason)
    assert words in verdict.text
    assert (verdict.text == "") == (state == "SUCCESS")


def test_canceled_wins_over_everything() -> None:
    ended = replace(GOOD, exit_code=137, out_of_memory=True)
    verdict = judge(ended, canceled=True, past_deadline=True, limits=LIMITS)
    assert (verdict.state, verdict.reason) == ("CANCELED", "canceled")


def test_the_deadline_explains_a_kill() -> None:
    verdict = judge(replace(GOOD, exit_code=137), canceled=False, past_deadline=True, limits=LIMITS)
    assert verdict.reason == "out-of-time"
    assert "90 s" in verdict.text


def test_what_never_started_is_not_late() -> None:
    ended = replace(GOOD, exit_code=127, not_started="No such thing.")
    assert judge(ended, canceled=False, past_deadline=True, limits=LIMITS).reason == "image-refused"
