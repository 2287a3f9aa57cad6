"""Wakes the importer, which also polls."""

import contextlib
from pathlib import Path

from django.conf import settings
from django.db import transaction

from gridapps.processes import doorbell


def ring_on_commit() -> None:
    """Ring once the current transaction has committed."""
    transaction.on_commit(_ring, robust=True)


def _ring() -> None:
    with contextlib.suppress(OSError):
        doorbell.ring(_path())


def _path() -> Path:
    return Path(settings.DATA) / "run" / "bells" / "importer"


class ImporterBell(doorbell.Doorbell):
    """The socket of the importer."""

    def __init__(self) -> None:
        super().__init__(_path())
