"""Wakes the couriers of this machine. Those of other machines poll every few seconds."""

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
            path.unlink(missing_ok=True)  # left by a killed courier


class CourierBell(doorbell.Doorbell):
    """The socket of a courier, of which a machine may run several."""

    def __init__(self) -> None:
        super().__init__(_directory() / f"{os.getpid()}.courier")


def _directory() -> Path:
    return Path(settings.DATA) / "run" / "bells"
