"""Sequences of events that the state machine of test_machine.py has found, each as a test of its own."""

from typing import Any

import pytest

from tests.runs.test_machine import Setting, machine_of, make_setting, play

__all__ = ["make_setting"]

pytestmark = pytest.mark.django_db(transaction=True)

# Once something was left over at the end of this one.
CUT_OFF_AND_KILLED: list[tuple[str, dict[str, Any]]] = [
    ("program_ends", {"which": 2}),
    ("is_cut_off", {"node": "two"}),
    ("program_ends", {"which": 1}),
    ("heart", {"node": "one"}),
    ("retry", {"which": 1}),
    ("go_on", {"node": "two", "steps": 5}),
    ("turn", {"node": "two", "steps": 7}),
    ("go_on", {"node": "one", "steps": 3}),
    ("start_worker", {"node": "one"}),
    ("is_cut_off", {"node": "one"}),
    ("go_on", {"node": "one", "steps": 10}),
    ("engine_goes", {"node": "one", "with_containers": False}),
    ("time_passes", {"seconds": 3600}),
    ("engine_comes", {"node": "two"}),
    ("start_worker", {"node": "one"}),
    ("start_worker", {"node": "two"}),
    ("submit", {"code": 0, "files": 1}),
    ("program_ends", {"which": 4}),
    ("go_on", {"node": "one", "steps": 9}),
    ("go_on", {"node": "two", "steps": 2}),
    ("time_passes", {"seconds": 7}),
    ("cancel", {"which": 16}),
    ("is_cut_off", {"node": "two"}),
    ("work", {"node": "two", "steps": 10, "task": 5}),
    ("cancel", {"which": 20}),
    ("is_cut_off", {"node": "two"}),
    ("submit", {"code": 0, "files": 2}),
    ("program_ends", {"which": 4}),
    ("start_worker", {"node": "one"}),
    ("program_ends", {"which": 0}),
    ("start_worker", {"node": "one"}),
    ("turn", {"node": "two", "steps": 10}),
    ("turn", {"node": "two", "steps": 8}),
    ("start_worker", {"node": "one"}),
    ("work", {"node": "two", "steps": 8, "task": 5}),
    ("work", {"node": "one", "steps": 1, "task": 4}),
    ("engine_comes", {"node": "one"}),
    ("time_passes", {"seconds": 7}),
    ("time_passes", {"seconds": 3600}),
    ("kill_worker", {"node": "two"}),
]


def test_nothing_is_left_over(setting: Setting) -> None:
    play(machine_of(setting), CUT_OFF_AND_KILLED)
