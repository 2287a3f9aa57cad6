"""The events of hooks, as data."""

from enum import StrEnum


class Event(StrEnum):
    """An event. Names are those of GRiD v3 where it has one."""

    RUN_STARTED = "run.started"
    RUN_PROGRESS = "run.progress"
    RUN_COMPLETE = "run.complete"
    EXPORT_COMPLETE = "export.complete"
    EXPORT_DELETED = "export.deleted"
    TEST = "hook.test"


OF_A_RUN = (Event.RUN_STARTED, Event.RUN_PROGRESS, Event.RUN_COMPLETE)
OFFERED = (
    *OF_A_RUN,
    Event.EXPORT_COMPLETE,
    Event.EXPORT_DELETED,
)  # hooks can subscribe to these; tests are requested
EVENTS = f"^({'|'.join(OFFERED)})(,({'|'.join(OFFERED)})){{0,4}}$".replace(".", "[.]")
