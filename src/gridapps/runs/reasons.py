"""Every reason with which attempts and runs end, as data."""

from collections.abc import Sequence
from typing import get_args

from gridapps.runs.states import State
from gridapps.sandbox.ending import Reason

NOT_ALLOWED = "not-allowed"  # the user may no longer run the release
OUTPUTS_INCOMPLETE = "outputs-incomplete"  # the program succeeded, and not everything could be collected
RELEASED = "released"  # returned by a worker that stops or cannot pull images; not a failure

OF_ATTEMPTS: Sequence[str] = ("", *get_args(Reason), NOT_ALLOWED, OUTPUTS_INCOMPLETE, RELEASED)
OF_RUNS: Sequence[tuple[State, str]] = (
    (State.SUCCESS, ""),
    (State.CANCELED, "canceled"),
    *((State.FAILURE, reason) for reason in get_args(Reason) if reason != "canceled"),
    (State.FAILURE, NOT_ALLOWED),
    (State.FAILURE, OUTPUTS_INCOMPLETE),
)
