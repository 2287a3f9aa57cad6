"""The states of runs and tasks, as data: who may move where. docs/states.md is generated from this table."""

from enum import StrEnum


class State(StrEnum):
    """GRiD v3's words."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    CANCELED = "CANCELED"


TERMINAL = frozenset({State.SUCCESS, State.FAILURE, State.CANCELED})
ACTIVE = frozenset({State.QUEUED, State.RUNNING})

MOVES: dict[State, frozenset[State]] = {
    # A failure before the start: its image or its input is gone.
    State.QUEUED: frozenset({State.RUNNING, State.CANCELED, State.FAILURE}),
    # Back to the queue: the platform failed, not the program.
    State.RUNNING: frozenset({State.SUCCESS, State.FAILURE, State.CANCELED, State.QUEUED}),
    State.SUCCESS: frozenset(),
    State.FAILURE: frozenset(),
    State.CANCELED: frozenset(),
}


def run_state(tasks: dict[State, int]) -> State:
    """The state of a run, derived from the number of its tasks in each state."""
    present = {state for state, count in tasks.items() if count}
    if not present <= TERMINAL:
        return State.QUEUED if present == {State.QUEUED} else State.RUNNING
    for state in (State.CANCELED, State.FAILURE):
        if state in present:
            return state
    return State.SUCCESS
