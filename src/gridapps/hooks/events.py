"""The events, as data."""

from enum import StrEnum


class Event(StrEnum):
    """What is told. GRiD v3's own names where it has one."""

    RUN_STARTED = "run.started"
    RUN_PROGRESS = "run.progress"
    RUN_COMPLETE = "run.complete"
    EXPORT_COMPLETE = "export.complete"
    TEST = "hook.test"


OF_A_RUN = (Event.RUN_STARTED, Event.RUN_PROGRESS, Event.RUN_COMPLETE)
OFFERED = (*OF_A_RUN, Event.EXPORT_COMPLETE)  # a hook may be told of these; a test is asked for
EVENTS = f"^({'|'.join(OFFERED)})(,({'|'.join(OFFERED)})){{0,3}}$".replace(".", "[.]")
