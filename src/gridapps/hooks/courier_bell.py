"""Wakes the couriers of this machine. Those of others look by themselves every few seconds."""

import os
from pathlib import Path

from django.conf import settings
from django.db import transaction

from gridapps.processes import doorbell


def ring_on_commit() -> None:
    """Ring once the current transaction has committed."""
    transaction.on_commit(ring, robust=True)


def ring() -> None:
    """Ring every courier of this machine. Never raises and never blocks."""
    for path in _directory().glob("*.courier"):
        try:
            doorbell.ring(path)
        except OSError:
            path.unlink(missing_ok=True)  # a killed one left it


class CourierBell(doorbell.Doorbell):
    """A courier's end. Any number of them may run on a machine."""

    def __init__(self) -> None:
        super().__init__(_directory() / f"{os.getpid()}.courier")


def _directory() -> Path:
    return Path(settings.DATA) / "run" / "bells"
