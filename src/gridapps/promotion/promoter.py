"""The promoter: a process that copies the shares in the state `copying`, one after the other.

Its only state is in the database. After a crash it starts again with the shares in that state.
"""

import logging
import threading
import time
from pathlib import Path

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import close_old_connections, connections

from gridapps.promotion import scanning
from gridapps.promotion.promoting import fail, note_waiting, promote
from gridapps.pushes.registry_client import Unavailable
from gridapps.registry.models import Share

LOOK = 1.0  # seconds between two polls for shares to copy
PATIENCE = 900.0  # seconds for which a copy waits for a registry; a restart resets the count
PAUSE = 5.0  # seconds before retrying after an error of a registry or the database
log = logging.getLogger(__name__)


class Promoter:
    """One per instance. It must reach both registries on the loopback."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._waiting: dict[int, float] = {}  # since when, by key of share

    def stop(self) -> None:
        """Ask the promoter to stop. It leaves an unfinished copy as it is. Safe in a signal handler."""
        self._stopping.set()

    def run(self) -> None:
        """Copy until `stop`."""
        scanning.remove_leftovers(Path(settings.DATA))
        pause = LOOK
        while not self._stopping.wait(pause):
            close_old_connections()
            try:
                pause = LOOK if self.copy_pending() else PAUSE
            except DatabaseError as error:
                log.warning("The database does not answer: %s", error)
                pause = PAUSE
            except Exception:
                # If the process ended here, it would be restarted and fail at the same share again.
                log.exception("The promoter goes on in %s s", PAUSE)
                pause = PAUSE
        connections.close_all()

    def copy_pending(self) -> bool:
        """Copy the pending shares, oldest first. Returns False if one has to wait."""
        fine = True
        pending = Share.objects.filter(state=Share.State.COPYING).order_by("created_at", "pk")
        for share in pending.select_related("app", "release"):
            if self._stopping.is_set():
                break
            try:
                promote(share, stopping=self._stopping.is_set)
                self._waiting.pop(share.pk, None)
            except Unavailable as error:
                self._wait(share, error)
                fine = False
        return fine

    def _wait(self, share: Share, error: Unavailable) -> None:
        """Record what the share waits for, or make it fail once it has waited too long."""
        if time.monotonic() > self._waiting.setdefault(share.pk, time.monotonic()) + PATIENCE:
            del self._waiting[share.pk]
            fail(share, str(error))
        else:
            note_waiting(share, str(error))
