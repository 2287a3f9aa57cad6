"""The promoter: a process that copies the shares whose state is copying, one after the other.

The rows are the truth: a promoter that was killed begins again with the shares that it finds so.
"""

import logging
import threading
import time

from django.db import Error as DatabaseError
from django.db import close_old_connections, connections

from gridapps.promotion import scanning
from gridapps.promotion.promoting import fail, note_waiting, promote, scans
from gridapps.pushes.registry_client import Unavailable
from gridapps.registry.models import Share

LOOK = 1.0  # seconds between two looks for new shares
PATIENCE = 900.0  # seconds for which a copy waits for a registry; a new promoter begins to count anew
PAUSE = 5.0  # seconds before a copy goes on that a registry or the database stopped
log = logging.getLogger(__name__)


class Promoter:
    """One per instance, a part of it: it has to reach both registries on the loopback."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._waiting: dict[int, float] = {}  # since when, by share

    def stop(self) -> None:
        """Ask it to stop; a copy under way is left as it is. Safe in a signal handler."""
        self._stopping.set()

    def run(self) -> None:
        """Copy until `stop`."""
        scanning.remove_leftovers(scans())
        pause = LOOK
        while not self._stopping.wait(pause):
            close_old_connections()
            try:
                pause = LOOK if self.copy_pending() else PAUSE
            except DatabaseError as error:
                log.warning("The database does not answer: %s", error)
                pause = PAUSE
            except Exception:
                # A promoter that ends here would be started again, and end at the same share.
                log.exception("The promoter goes on in %s s", PAUSE)
                pause = PAUSE
        connections.close_all()

    def copy_pending(self) -> bool:
        """Copy what is to be copied now, the oldest first; False when something has to wait."""
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
        """Note what is waited for; a share that never gets further fails in the end."""
        if time.monotonic() > self._waiting.setdefault(share.pk, time.monotonic()) + PATIENCE:
            del self._waiting[share.pk]
            fail(share, str(error))
        else:
            note_waiting(share, str(error))
