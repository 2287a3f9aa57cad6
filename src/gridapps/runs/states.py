"""The states of runs and tasks, as data. docs/states.md is generated from this table."""

from enum import StrEnum

from gridapps.moves import Moves, ends


class State(StrEnum):
    """The names of GRiD v3."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    CANCELED = "CANCELED"


MOVES: Moves[State] = {
    State.QUEUED: frozenset({State.RUNNING, State.CANCELED}),
    # Back to the queue when the platform failed, not the program.
    State.RUNNING: frozenset({State.SUCCESS, State.FAILURE, State.CANCELED, State.QUEUED}),
    State.SUCCESS: frozenset(),
    State.FAILURE: frozenset(),
    State.CANCELED: frozenset(),
}
TERMINAL = ends(MOVES)
ACTIVE = frozenset(State) - TERMINAL


def run_state(tasks: set[State]) -> State:
    """The state of a run, derived from the states of its tasks."""
    if not tasks <= TERMINAL:
        return State.QUEUED if tasks == {State.QUEUED} else State.RUNNING
    for state in (State.CANCELED, State.FAILURE):
        if state in tasks:
            return state
    return State.SUCCESS
