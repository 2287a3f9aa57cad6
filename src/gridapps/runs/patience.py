"""Waiting for what is away: database, engine, registry, storage, room on the disk. None of it is a program's
fault, so nothing that a container did is lost for it.
"""

import errno
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import TypeVar

from django.db import InterfaceError, OperationalError, close_old_connections

from gridapps.sandbox.protocol import EngineUnavailable, NoSpace, RegistryUnavailable
from gridapps.storage.cache import CacheFull
from gridapps.storage.protocol import StorageUnavailable

logger = logging.getLogger(__name__)
# What passes without the program's doing.
_AWAY = (EngineUnavailable, RegistryUnavailable, StorageUnavailable, NoSpace, CacheFull)
T = TypeVar("T")

PAUSE = 2.0  # seconds before something that is away is asked again
PULL_PATIENCE = 900.0  # seconds in which a registry that does not answer is asked again, in one attempt


@dataclass(frozen=True, kw_only=True)
class Patience:
    """That of one attempt on one node."""

    attempt: str  # as the log names it
    node: str
    waiting: Event  # set while it waits
    note: Callable[[str], None]  # tells the user what it waits for; "" when that is over

    def __call__(self, action: Callable[[], T], *, heed: Callable[[], None]) -> T:
        """Do it, waiting for as long as engine or storage are away or the disk is full.

        `heed` is called between two tries, and ends the wait by raising.
        """
        began = time.monotonic()
        while True:
            try:
                result = action()
            except (*_AWAY, OSError) as error:
                if isinstance(error, OSError) and error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                if isinstance(error, RegistryUnavailable) and time.monotonic() > began + PULL_PATIENCE:
                    raise  # it may be this image's fault
                self._wait_for(error)
                heed()
            else:
                if self.waiting.is_set():
                    self.waiting.clear()
                    self.note("")
                return result

    def _wait_for(self, error: Exception) -> None:
        text = f"Waiting on node {self.node}: {error}"
        logger.warning("%s: %s", self.attempt, text)
        if not self.waiting.is_set():
            self.waiting.set()
            self.note(text)
        time.sleep(PAUSE)


def persist(statement: Callable[[], T]) -> T:
    """Do it, waiting for as long as the database is away: what a container did is not lost for that.

    Every write that comes here is fenced or idempotent, so doing it twice is doing it once.
    """
    while True:
        try:
            return statement()
        except (OperationalError, InterfaceError) as error:
            logger.warning("The database does not answer: %s", error)
            close_old_connections()
            time.sleep(PAUSE)
