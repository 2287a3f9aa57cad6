"""The importer: a process that checks uploads, makes exports of them, and removes files of deleted exports.

It is the only part that writes export files. All of its state is in the database and in the files, so it may
be killed at any point.
"""

import logging
import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event

from django.db import Error as DatabaseError
from django.db import close_old_connections, connections

from gridapps.exports import reader_confinement, upload_checks
from gridapps.exports.importer_bell import ImporterBell
from gridapps.exports.models import UploadFile
from gridapps.housekeeping import lost_exports
from gridapps.server.housekeeper import Job

SLOTS = max(2, os.cpu_count() or 1)  # files that are checked at once, each of another user
POLL = 5.0  # seconds
TEND = 60.0  # seconds between two looks for uploads that have expired
PAUSE = 15.0  # seconds before a check is tried again after an error of the storage or a disk
FIRST = 60.0  # seconds until the jobs run first
log = logging.getLogger(__name__)

# Seconds between two runs. The second one lists everything that is stored.
JOBS = (
    (3600.0, Job("deleted exports", lost_exports.find_deleted, lost_exports.tidy_deleted)),
    (86400.0, Job("exports", lost_exports.find, lost_exports.tidy)),
)


class Importer:
    """One per instance."""

    def __init__(self) -> None:
        self._bell = ImporterBell()
        self._stopping = Event()
        self._checks: dict[int, Future[None]] = {}  # by key of the owner
        self._later: dict[int, float] = {}  # when the files of an owner are tried again
        self._due = {"tend": 0.0} | {job.name: time.monotonic() + FIRST for _, job in JOBS}

    def stop(self) -> None:
        """Ask the importer to stop. Checks in progress begin again at the next start. For signal handlers."""
        self._stopping.set()
        self._bell.ring()

    def run(self) -> None:
        """Check uploads until `stop`."""
        if not reader_confinement.available():
            log.error("Uploads wait: as root, apt-get install libseccomp2, and restart the instance.")
        pool = ThreadPoolExecutor(SLOTS, thread_name_prefix="check")
        with self._bell:
            while not self._stopping.is_set():
                close_old_connections()
                try:
                    self._step(pool)
                except DatabaseError as error:
                    log.warning("The database does not answer: %s", error)
                except Exception:
                    log.exception("The importer goes on in %.0f s", POLL)
                if not self._stopping.is_set():
                    self._bell.wait(POLL)
        connections.close_all()
        os._exit(0)  # threads that check a file would hold up the end

    def _step(self, pool: ThreadPoolExecutor) -> None:
        for owner in [owner for owner, check in self._checks.items() if check.done()]:
            if self._checks.pop(owner).exception() is not None:
                self._later[owner] = time.monotonic() + PAUSE
        upload_checks.finish()
        if reader_confinement.available():
            self._begin(pool)
        if self._is_due("tend", TEND):
            upload_checks.expire()
        for every, job in JOBS:
            if self._is_due(job.name, every) and (removed := list(job.run())):
                log.info("The job %s removed %s things: %s", job.name, len(removed), removed[:20])

    def _begin(self, pool: ThreadPoolExecutor) -> None:
        now = time.monotonic()
        self._later = {owner: until for owner, until in self._later.items() if until > now}
        while len(self._checks) < SLOTS:
            file = upload_checks.next_file(but=self._checks.keys() | self._later.keys())
            if file is None:
                return
            self._checks[file.upload.owner_id] = pool.submit(self._check, file)

    def _check(self, file: UploadFile) -> None:
        try:
            upload_checks.check(file)
        except Exception as error:
            log.warning(
                "The check of file %s of upload %s goes on later: %s", file.index, file.upload_id, error
            )
            raise
        finally:
            connections.close_all()
            self._bell.ring()

    def _is_due(self, name: str, every: float) -> bool:
        now = time.monotonic()
        if now < self._due[name]:
            return False
        self._due[name] = now + every
        return True
