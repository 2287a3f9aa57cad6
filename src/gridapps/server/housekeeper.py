"""The housekeeper: a process that periodically removes images and sessions that the instance no longer needs.

It runs its jobs one after the other. A job can be killed at any point and starts again in the next round, so
there is no orderly stop. `gridapps-server tidy` runs the same jobs at once, and those of the importer and
of workers.
"""

import fcntl
import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.db import close_old_connections

from gridapps.housekeeping import expiry, output_files, sweeping
from gridapps.housekeeping import image_retention as retention
from gridapps.housekeeping import lost_outputs as outputs
from gridapps.registry.models import Release
from gridapps.server import layout

FIRST = 60.0  # seconds after the start, when the instance is busy
PATIENCE = 60.0  # seconds to wait for the supervisor
EVERY = 60.0  # seconds between two rounds
_HOUR = 60  # rounds
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """Removes something by a rule. Both functions return a line for each item."""

    name: str
    plan: Callable[[], Iterable[str]]  # lists what would be removed
    run: Callable[[], Iterable[str]]
    rounds: int = 1  # it runs in every round, or in every nth
    needs_blobs: bool = False  # it removes blobs, whose directories the supervisor has to open


def plan_images() -> Iterator[str]:
    """Images that no release needs: those that the retention policy gives up, and leftovers of pushes."""
    given_up = retention.plan()
    yield from map(_line, given_up)
    yield from sweeping.plan(without=given_up).lines()


def remove_images() -> Iterator[str]:
    """Remove what `plan_images` lists."""
    yield from map(_line, retention.retire())
    yield from sweeping.sweep()


def _line(release: Release) -> str:
    return f"release {release}: {release.size} bytes"


JOBS = (
    Job("images", plan_images, remove_images, rounds=_HOUR, needs_blobs=True),
    Job("sessions", expiry.plan, expiry.tidy, rounds=_HOUR),
)
# A part of the first one. Abandoned uploads may be large, so they do not wait for it.
UPLOADS = Job("uploads", list, sweeping.sweep_uploads)
# Workers own the outputs, so these run with a worker's rights. Workers sweep by themselves; only the second
# job lists everything that is stored.
OF_WORKERS = (
    Job("outputs", output_files.plan, output_files.sweep),
    Job("lost outputs", outputs.plan, outputs.tidy),
)


def keep_house(data: Path) -> None:
    """Run the jobs until the process is killed."""
    for round_ in itertools.count():
        time.sleep(EVERY if round_ else FIRST)
        with alone(data):
            for job in (*JOBS, UPLOADS):
                if round_ % job.rounds:
                    continue
                if job.needs_blobs:
                    _ask_for_blobs(data)
                close_old_connections()
                try:
                    removed = list(job.run())
                except Exception:
                    # The other jobs and the next round go on.
                    log.exception("The job %s goes on in %.0f s", job.name, EVERY)
                else:
                    if not removed and job is UPLOADS:
                        continue
                    log.info("The job %s removed %s things: %s", job.name, len(removed), removed[:20])


def _ask_for_blobs(data: Path) -> None:
    """Wait until the supervisor has opened the directories of blobs. Blobs that stay closed are kept."""
    asked, end = data / layout.OPEN_BLOBS, time.monotonic() + PATIENCE
    asked.touch(mode=0o600)
    while asked.exists() and time.monotonic() < end:
        time.sleep(0.1)
    asked.unlink(missing_ok=True)


@contextmanager
def alone(data: Path) -> Iterator[None]:
    """Hold the lock that only one housekeeper or `tidy` of this data directory can hold."""
    with (data / layout.TIDY_LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
