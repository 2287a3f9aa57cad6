"""Waiting for what is unavailable: database, engine, registry, storage, space on the disk. None of these is
the program's fault, so the attempt waits and keeps what its container did.

The wait is limited for what the task itself may have caused: a lack of space, or a registry that fails.
"""

import errno
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import TypeVar

from django.db import InterfaceError, OperationalError, close_old_connections

from gridapps.sandbox.protocol import EngineUnavailable, NoSpace, RegistryUnavailable, Unexplained
from gridapps.storage.cache import CacheFull
from gridapps.storage.interface import StorageUnavailable
from gridapps.worker.causes import cause

logger = logging.getLogger(__name__)
_UNAVAILABLE = (EngineUnavailable, RegistryUnavailable, StorageUnavailable, NoSpace, CacheFull)
_LIMITED = (RegistryUnavailable, NoSpace, CacheFull, OSError)
T = TypeVar("T")

PAUSE = 2.0  # seconds between two attempts
LONGEST = 900.0  # seconds of waiting in one step for what the task itself may have caused
TRIES = 3  # of a call that the engine fails although engine, registry and disk work


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Retries the actions of one attempt on one node."""

    attempt: str  # its name in the log
    node: str
    waiting: Event  # set while it waits
    note: Callable[[str], None]  # shows the user what it waits for; "" when the wait is over

    def __call__(self, action: Callable[[], T], *, check: Callable[[], None], alone: bool = False) -> T:
        """Return what the action returns. Retry it while engine or storage are unavailable, and for a limited
        time while space or the registry is.

        `check` is called between two attempts, and ends the wait by raising. With `alone`, a lack of space
        concerns this task only, so the node goes on to claim others.
        """
        began, tries, noted = time.monotonic(), 0, False
        while True:
            try:
                result = action()
            except Unexplained as error:
                tries += 1
                if tries >= TRIES:
                    raise
                logger.warning("%s: retrying: %s", self.attempt, error)
                time.sleep(PAUSE)
            except (*_UNAVAILABLE, OSError) as error:
                if not _may_pass(error, waited=time.monotonic() - began):
                    raise
                self._wait_for(error, note=not noted, alone=alone)
                noted = True
            else:
                self.waiting.clear()
                if noted:
                    self.note("")
                return result
            check()

    def _wait_for(self, error: Exception, *, note: bool, alone: bool) -> None:
        if not (alone and isinstance(error, NoSpace)):
            self.waiting.set()
        logger.warning("%s: waiting on node %s: %s", self.attempt, self.node, error)
        if note:
            self.note(f"Waiting on node {self.node}: {cause(error)}")
        time.sleep(PAUSE)


def _may_pass(error: Exception, *, waited: float) -> bool:
    """Whether to wait on, after `waited` seconds: the error is a lack of space or of a service, and the task
    itself did not cause it for too long."""
    if isinstance(error, OSError) and error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return False
    return not isinstance(error, _LIMITED) or waited <= LONGEST


def persist(statement: Callable[[], T]) -> T:
    """Execute it, and retry while the database is unavailable, so that no result of a container is lost.

    Every write that is passed here is fenced or idempotent, so repeating it is safe.
    """
    while True:
        try:
            return statement()
        except (OperationalError, InterfaceError) as error:
            logger.warning("The database does not answer: %s", error)
            close_old_connections()
            time.sleep(PAUSE)
