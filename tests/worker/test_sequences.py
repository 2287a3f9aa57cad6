"""Sequences of events that once failed in test_machine.py."""

from typing import Any

import pytest

from tests.worker.test_machine import Setting, machine_of, make_setting, play

__all__ = ["make_setting"]

pytestmark = pytest.mark.django_db(transaction=True)

# Something was left over at the end.
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
# An attempt that lost its lease while its engine was away left its directory: the engine came back without
# the container, so that nothing was found to be removed.
CUT_OFF_WITHOUT_ITS_ENGINE: list[tuple[str, dict[str, Any]]] = [
    ("turn", {"node": "two", "steps": 12}),
    ("is_cut_off", {"node": "two"}),
    ("retry", {"which": 14}),
    ("program_ends", {"which": 0}),
    ("start_worker", {"node": "two"}),
    ("arm", {"fault": "database, before"}),
    ("retry", {"which": 6}),
    ("heart", {"node": "two"}),
    ("is_cut_off", {"node": "two"}),
    ("time_passes", {"seconds": 7}),
    ("retry", {"which": 9}),
    ("arm", {"fault": "engine, before"}),
    ("start_worker", {"node": "two"}),
    ("engine_goes", {"node": "two", "with_containers": False}),
    ("arm", {"fault": "engine, before"}),
    ("heart", {"node": "one"}),
    ("program_ends", {"which": 4}),
    ("start_worker", {"node": "one"}),
    ("program_ends", {"which": 3}),
    ("program_ends", {"which": 5}),
    ("engine_comes", {"node": "one"}),
    ("go_on", {"node": "two", "steps": 16}),
    ("engine_comes", {"node": "two"}),
    ("time_passes", {"seconds": 1}),
    ("engine_goes", {"node": "two", "with_containers": True}),
    ("start_worker", {"node": "one"}),
    ("turn", {"node": "two", "steps": 1}),
    ("go_on", {"node": "two", "steps": 10}),
    ("turn", {"node": "two", "steps": 2}),
    ("engine_comes", {"node": "two"}),
    ("start_worker", {"node": "one"}),
    ("time_passes", {"seconds": 3600}),
    ("retry", {"which": 7}),
    ("go_on", {"node": "two", "steps": 18}),
    ("arm", {"fault": "database, after"}),
    ("retry", {"which": 20}),
    ("engine_goes", {"node": "one", "with_containers": False}),
    ("turn", {"node": "one", "steps": 4}),
    ("is_cut_off", {"node": "two"}),
    ("retry", {"which": 18}),
]


@pytest.mark.parametrize(
    "steps",
    [CUT_OFF_AND_KILLED, CUT_OFF_WITHOUT_ITS_ENGINE],
    ids=["cut off and killed", "cut off without its engine"],
)
def test_nothing_is_left_over(setting: Setting, steps: list[tuple[str, dict[str, Any]]]) -> None:
    play(machine_of(setting), steps)
