"""The log of an attempt, copied out of the sandbox line by line while it runs, and read back for users.

Where the storage is a directory, readers see the file grow. Where it is S3, new lines go there as objects
named by their offset: every second at first, then more and more seldom, some 250 in a week. At the end
they become one object.
"""

import logging
import time
from collections.abc import Callable

from gridapps.exports.storage import current
from gridapps.runs.store import Place, is_shared
from gridapps.sandbox.log import LogFollower, Progress
from gridapps.storage.protocol import Missing, StorageUnavailable

logger = logging.getLogger(__name__)

FIRST = 1.0  # seconds between two pieces at first
_SLOWER = 20  # later they come after a 20th of the time that the log has been written
_AFTER_FAULT = 30.0  # seconds before a storage that was away is tried again


class LogRecorder:
    """Copies new lines of a container's log to the store, and picks the newest progress out of them.

    It starts from the beginning each time, so that a worker that takes over rewrites what its predecessor may
    have left half done.
    """

    def __init__(self, *, log: Callable[[], int | None], place: Place, limit: int) -> None:
        """`log` gives a new descriptor of the container's log; `limit`: bytes of it that are looked at."""
        self._follower = LogFollower(log, limit=limit)
        self._target = place.log
        self._size = 0
        self._new = bytearray()
        self._pieces = None if is_shared() else _Pieces(place)
        self._target.write_bytes(b"")
        self._target.chmod(0o640)

    def record(self) -> Progress | None:
        """Copy what is new; return the newest progress in it, if any."""
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
        """Opened and closed each time: that is when a file server shows it to other machines.

        What a full disk took only half of is written again from where it began.
        """
        with self._target.open("r+b") as file:
            file.truncate(self._size)
            file.seek(self._size)
            file.write(self._new)
        self._size += len(self._new)
        self._new = bytearray()


class _Pieces:
    """Sends what a log has grown by, now and then."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._sent = 0
        self._began = self._due = time.monotonic()

    def send(self, size: int) -> None:
        """A program does not wait for a storage that is away: the next piece has it all."""
        now = time.monotonic()
        if size == self._sent or now < self._due:
            return
        self._due = now + max(FIRST, (now - self._began) / _SLOWER)
        try:
            with self._place.log.open("rb") as file:
                file.seek(self._sent)
                current().put(_piece_key(self._place, self._sent), file, size=size - self._sent)
        except StorageUnavailable as error:
            logger.warning("%s: %s", self._place.key, error)
            self._due = time.monotonic() + _AFTER_FAULT
        else:
            self._sent = size


def read(place: Place, offset: int, limit: int, *, ended: bool) -> bytes:
    """Up to `limit` bytes of an attempt's log from `offset`, as far as it is written.

    `ended`: it grows no more. Raises StorageUnavailable.
    """
    if is_shared():
        try:
            with place.log.open("rb") as file:
                file.seek(offset)
                return file.read(limit)
        except FileNotFoundError:
            return b""
    if ended:
        try:
            return b"".join(current().read(f"{place.key}/log", start=offset, stop=offset + limit))
        except Missing:
            pass  # its worker died before the end: there are the pieces
    return _read_piece(place, offset, limit)


def _read_piece(place: Place, offset: int, limit: int) -> bytes:
    for entry in current().entries(f"{place.key}/log.d/"):
        start = int(entry.key.rpartition("/")[2])
        if start <= offset < start + entry.size:
            try:
                here = offset - start
                return b"".join(current().read(entry.key, start=here, stop=here + limit))
            except Missing:
                break  # it has just become part of the whole
    return b""


def _piece_key(place: Place, offset: int) -> str:
    return f"{place.key}/log.d/{offset:012}"
