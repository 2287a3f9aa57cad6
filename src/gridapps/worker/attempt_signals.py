"""Signals between the worker and an attempt, which runs in another thread."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from threading import Event

LOOK = 0.5  # seconds between two checks of the signals during a sleep


@dataclass(kw_only=True)
class Signals:
    """The first four are for the attempt, the others for the worker."""

    cancel: Event = field(default_factory=Event)  # the run was canceled
    lost: Event = field(default_factory=Event)  # another worker may have the lease
    stop: Event = field(default_factory=Event)  # the worker stops: give the task back
    leave: Event = field(default_factory=Event)  # the worker stops: leave the container to its successor
    unclean: Event = field(default_factory=Event)  # the container could not be removed
    waiting: Event = field(default_factory=Event)  # engine, registry or disk are unavailable: claim nothing
    renewed_at: float = field(default_factory=time.monotonic)


def sleep(seconds: float, *, until: Iterable[Event]) -> None:
    """Sleep, but return early when one of these events is set."""
    events = tuple(until)
    end = time.monotonic() + seconds
    while time.monotonic() < end and not any(event.is_set() for event in events):
        time.sleep(min(LOOK, seconds))
