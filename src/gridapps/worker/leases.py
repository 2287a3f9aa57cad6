"""Renewing the leases of a worker's attempts, and expiring those of workers that no longer report."""

import logging
import time
from datetime import timedelta

from django.db import close_old_connections

from gridapps.runs import queue
from gridapps.runs.queue import Claim
from gridapps.runs.states import TERMINAL
from gridapps.runs.store import tidy
from gridapps.worker.attempt_signals import Signals
from gridapps.worker.running import RunningAttempts

logger = logging.getLogger(__name__)


class LeaseKeeper:
    """The leases of one worker."""

    def __init__(self, attempts: RunningAttempts, *, lease: timedelta) -> None:
        self._attempts = attempts
        self._lease = lease
        self._database_up_since = time.monotonic()

    def note_outage(self, error: Exception) -> None:
        """Give every worker a whole lease to report after the database is back."""
        self._database_up_since = time.monotonic()
        logger.warning("The database does not answer: %s", error)
        close_old_connections()

    def look_after(self) -> None:
        """Renew the leases of which a third has passed, and pass cancellations on to the attempts."""
        active = self._attempts.all()
        if not active:
            return
        canceled = queue.cancel_requested(claims=active)
        due = time.monotonic() - self._lease.total_seconds() / 3
        self._renew({claim: signals for claim, signals in active.items() if signals.renewed_at < due})
        for claim, signals in active.items():
            if claim.token in canceled:
                signals.cancel.set()

    def expire(self) -> None:
        """Give back the tasks of workers that have not reported for a lease.

        Does nothing for one lease after this worker's start or an outage of the database, because other
        workers may not have been able to report.
        """
        if time.monotonic() - self._database_up_since <= self._lease.total_seconds():
            return
        # This worker is alive, even if the clock has jumped or the process was suspended.
        self._renew(self._attempts.all())
        for task, attempt, state in queue.expire():
            if state in TERMINAL:  # no later attempt removes the files of the earlier ones
                tidy(task=task, attempt=attempt)

    def _renew(self, due: dict[Claim, Signals]) -> None:
        if not due:
            return
        now = time.monotonic()
        held = queue.renew(claims=due, lease=self._lease)
        for claim, signals in due.items():
            signals.renewed_at = now
            if claim.token not in held:
                signals.lost.set()
