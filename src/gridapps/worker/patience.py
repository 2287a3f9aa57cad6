"""Waiting for what is away: database, engine, registry, storage, room on the disk. None of it is a program's
fault, so nothing that a container did is lost for it.

What the task itself may have caused is waited for within limits, and keeps the node from no other task.
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

logger = logging.getLogger(__name__)
# What passes without the program's doing.
_AWAY = (EngineUnavailable, RegistryUnavailable, StorageUnavailable, NoSpace, CacheFull)
_BOUNDED = (RegistryUnavailable, NoSpace, CacheFull, OSError)
T = TypeVar("T")

PAUSE = 2.0  # seconds before something that is away is asked again
LONGEST = 900.0  # seconds of waiting in one attempt for what the task may have caused itself
TRIES = 3  # of what the engine fails to do although everything seems well


@dataclass(frozen=True, kw_only=True)
class Patience:
    """That of one attempt on one node."""

    attempt: str  # as the log names it
    node: str
    waiting: Event  # set while it waits
    note: Callable[[str], None]  # tells the user what it waits for; "" when that is over

    def __call__(self, action: Callable[[], T], *, heed: Callable[[], None], alone: bool = False) -> T:
        """Do it, waiting for as long as engine or storage are away, and for a while for room and registry.

        `heed` is called between two tries, and ends the wait by raising. With `alone`, a lack of room is this
        task's: the node goes on to claim others.
        """
        began, tries, noted = time.monotonic(), 0, False
        while True:
            try:
                result = action()
            except Unexplained as error:
                tries += 1
                if tries >= TRIES:
                    raise
                logger.warning("%s: tried again: %s", self.attempt, error)
                time.sleep(PAUSE)
                heed()
            except (*_AWAY, OSError) as error:
                if isinstance(error, OSError) and error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                if isinstance(error, _BOUNDED) and time.monotonic() > began + LONGEST:
                    raise
                if not (alone and isinstance(error, NoSpace)):
                    self.waiting.set()
                self._wait_for(error, note=not noted)
                noted = True
                heed()
            else:
                self.waiting.clear()
                if noted:
                    self.note("")
                return result

    def _wait_for(self, error: Exception, *, note: bool) -> None:
        text = f"Waiting on node {self.node}: {error}"
        logger.warning("%s: %s", self.attempt, text)
        if note:
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
