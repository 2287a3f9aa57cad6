"""Wakes sleeping workers: those of this machine through datagram sockets, those of other nodes through the
broker if there is one. A lost ring delays a run by seconds, because every worker also polls."""

import contextlib
from pathlib import Path

from django.conf import settings
from django.db import transaction

from gridapps.processes import doorbell
from gridapps.runs.broker import caller


def _directory() -> Path:
    return Path(settings.DATA) / "run" / "bells"


def ring_on_commit() -> None:
    """Ring every worker once the current transaction has committed."""
    transaction.on_commit(ring, robust=True)


def ring() -> None:
    """Ring every worker now. Never raises and never blocks."""
    ring_here()
    if settings.GRIDAPPS.broker:
        caller().call()


def ring_here() -> None:
    """Ring the workers of this machine. A dead socket is skipped."""
    for path in _directory().glob("*.bell"):
        with contextlib.suppress(OSError):
            doorbell.ring(path)


class WorkerBell(doorbell.Doorbell):
    """The socket of a worker, named after its node."""

    def __init__(self, node: str) -> None:
        super().__init__(_directory() / f"{node}.bell")
