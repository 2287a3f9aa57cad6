"""Copying the log of a container to the storage while the program runs.

In a directory, readers see the file grow. For S3, new lines become objects named by their offset: every
second at first, then less and less often, about 250 in a week. At the end of the attempt one object replaces
them.
"""

import logging
import time
from collections.abc import Callable

from gridapps.runs.store import AttemptFiles, is_shared
from gridapps.sandbox.log import LogFollower, Progress
from gridapps.storage.choice import current
from gridapps.storage.interface import StorageUnavailable

logger = logging.getLogger(__name__)

FIRST = 1.0  # seconds between the first two pieces
_SLOWER = 20  # later pieces follow after this fraction of the time that the log has been written
_AFTER_FAULT = 30.0  # seconds before an unavailable storage is tried again


class LogRecorder:
    """Copies new lines of a container's log to the storage, and extracts the newest progress.

    It starts at the beginning of the log, so a worker that adopts an attempt rewrites what its predecessor
    may have left incomplete.
    """

    def __init__(self, *, log: Callable[[], int | None], files: AttemptFiles, limit: int) -> None:
        """`log` returns a new descriptor of the container's log. `limit`: bytes of it that are read."""
        self._follower = LogFollower(log, limit=limit)
        self._target = files.log
        self._size = 0
        self._new = bytearray()
        self._pieces = None if is_shared() else _Pieces(files)
        self._target.write_bytes(b"")
        self._target.chmod(0o640)

    def record(self) -> Progress | None:
        """Copy new lines; return the newest progress in them, if any."""
        latest = None
        for item in self._follower.read():
            if isinstance(item, Progress):
                latest = item
            else:
                self._new += f"{item.at} {item.text}\n".encode()
        if self._new:
            self._write()
        if self._pieces is not None:
            self._pieces.send(self._size)
        return latest

    def _write(self) -> None:
        """Open and close the file each time, because a file server shows changes to other machines on close.

        Lines that a full disk took only in part are written again from their beginning.
        """
        with self._target.open("r+b") as file:
            file.truncate(self._size)
            file.seek(self._size)
            file.write(self._new)
        self._size += len(self._new)
        self._new = bytearray()


class _Pieces:
    """Sends the growth of a log as one object after the other."""

    def __init__(self, files: AttemptFiles) -> None:
        self._files = files
        self._sent = 0
        self._began = self._due = time.monotonic()

    def send(self, size: int) -> None:
        """Send a piece if it is due. If the storage is unavailable, the next piece contains this one too."""
        now = time.monotonic()
        if size == self._sent or now < self._due:
            return
        self._due = now + max(FIRST, (now - self._began) / _SLOWER)
        try:
            with self._files.log.open("rb") as file:
                file.seek(self._sent)
                current().put(self._files.piece_key(self._sent), file, size=size - self._sent)
        except StorageUnavailable as error:
            logger.warning("%s: %s", self._files.key, error)
            self._due = time.monotonic() + _AFTER_FAULT
        else:
            self._sent = size
