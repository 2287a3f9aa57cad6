"""Copying the log of a container to the storage while the program runs.

The beginning of the log goes to one file. The lines that do not fit go to a few small files, of which the
oldest is removed when a new one is begun: so the newest lines are always there.

In a directory, readers see the files grow. For S3, new lines become objects named by their offset: every
second at first, then less and less often, about 250 in a week. At the end of the attempt one object replaces
those of the beginning.
"""

import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from gridapps.runs.store import AttemptFiles, is_shared
from gridapps.sandbox.log import Progress
from gridapps.sandbox.log_following import LogFollower
from gridapps.storage.choice import current
from gridapps.storage.interface import StorageUnavailable

logger = logging.getLogger(__name__)

FIRST = 1.0  # seconds between the first two pieces
_SLOWER = 20  # later pieces follow after this fraction of the time that the log has been written
_AFTER_FAULT = 30.0  # seconds before an unavailable storage is tried again
_TAIL_PARTS = 16  # of the limit: each file of the newest lines has one of them
_TAIL_FILES = 4  # files of the newest lines


class LogRecorder:
    """Copies new lines of a container's log to the storage, and extracts the newest progress.

    It starts at the beginning of the log, so a worker that adopts an attempt rewrites what its predecessor
    may have left incomplete.
    """

    def __init__(
        self, *, log: Callable[[], int | None], files: AttemptFiles, limit: int, predecessor: int = 0
    ) -> None:
        """`log` returns a new descriptor of the container's log. `limit`: bytes of it that are kept.

        `predecessor`: the end of the newest lines that another worker wrote, which readers may have seen.
        """
        self._follower = LogFollower(log, limit=limit)
        self._head = _GrowingFile(files.log, at=0)
        self._tail = _Tail(files.tail, size=limit // _TAIL_PARTS, after=predecessor)
        self._head_limit = limit - _TAIL_FILES * (limit // _TAIL_PARTS)
        self._predecessor = predecessor
        self.grew = False  # whether the last call of `record` found something
        self._pieces = None if is_shared() else _Pieces(files, self._head, self._tail)

    def record(self) -> Progress | None:
        """Copy new lines; return the newest progress in them, if any."""
        latest = None
        self.grew = False
        for item in self._follower.read():
            self.grew = True
            if isinstance(item, Progress):
                latest = item
            else:
                self._add(f"{item.at} {item.text}\n".encode())
        if self._predecessor and not self._follower.is_in_head:
            self._head_limit = 0  # readers have read past the beginning already
        self._head.write()
        self._tail.write()
        if self._pieces is not None:
            self._pieces.send()
        return latest

    def _add(self, line: bytes) -> None:
        if self._tail.files or self._head.end + len(line) > self._head_limit:
            self._tail.add(line, at=self._head.end)
        else:
            self._head.add(line)


class _GrowingFile:
    """A file of the log, from the offset `at`."""

    def __init__(self, path: Path, *, at: int) -> None:
        self.path = path
        self.at = at
        self.size = 0  # bytes that are written
        self._new = bytearray()
        path.write_bytes(b"")
        path.chmod(0o640)

    @property
    def end(self) -> int:
        """The offset behind it, with what is not written yet."""
        return self.at + self.size + len(self._new)

    def add(self, line: bytes) -> None:
        self._new += line

    def write(self) -> None:
        """Open and close the file each time, because a file server shows changes to other machines on close.

        Lines that a full disk took only in part are written again from their beginning.
        """
        if not self._new:
            return
        with self.path.open("r+b") as file:
            file.truncate(self.size)
            file.seek(self.size)
            file.write(self._new)
        self.size += len(self._new)
        self._new = bytearray()


class _Tail:
    """The newest lines, in a few files of `size` bytes."""

    def __init__(self, directory: Path, *, size: int, after: int) -> None:
        self._directory = directory
        self._size = size
        self._after = after
        self.files: list[_GrowingFile] = []
        shutil.rmtree(directory, ignore_errors=True)

    def add(self, line: bytes, *, at: int) -> None:
        """Add a line. `at` is the offset of the first one."""
        if not self.files or self.files[-1].end + len(line) > self.files[-1].at + self._size:
            self._begin(self.files[-1].end if self.files else max(at, self._after))
        self.files[-1].add(line)

    def write(self) -> None:
        for file in self.files:
            file.write()

    def _begin(self, at: int) -> None:
        if not self.files:
            self._directory.mkdir(mode=0o750)
            self._directory.chmod(0o2750 if self._directory.parent.stat().st_mode & 0o2000 else 0o750)
        self.files.append(_GrowingFile(self._directory / f"{at:012}", at=at))
        if len(self.files) > _TAIL_FILES:
            self.files.pop(0).path.unlink()


class _Pieces:
    """Sends the growth of a log as one object after the other, and the files of the newest lines."""

    def __init__(self, files: AttemptFiles, head: _GrowingFile, tail: _Tail) -> None:
        self._files = files
        self._head = head
        self._tail = tail
        self._sent = 0  # bytes of the head
        self._sent_tail: dict[int, int] = {}  # bytes of each file of the tail, by offset
        self._began = self._due = time.monotonic()

    def send(self) -> None:
        """Send what is new, if it is due. If the storage is unavailable, the next call sends this too."""
        now = time.monotonic()
        tail = {file.at: file.size for file in self._tail.files}
        if (self._head.size == self._sent and tail == self._sent_tail) or now < self._due:
            return
        self._due = now + max(FIRST, (now - self._began) / _SLOWER)
        try:
            self._send_head()
            self._send_tail(tail)
        except StorageUnavailable as error:
            logger.warning("%s: %s", self._files.key, error)
            self._due = time.monotonic() + _AFTER_FAULT

    def _send_head(self) -> None:
        size = self._head.size
        if size > self._sent:
            with self._head.path.open("rb") as file:
                file.seek(self._sent)
                current().put(self._files.piece_key(self._sent), file, size=size - self._sent)
            self._sent = size

    def _send_tail(self, tail: dict[int, int]) -> None:
        for each in self._tail.files:
            if self._sent_tail.get(each.at) != each.size:
                with each.path.open("rb") as file:
                    current().put(self._files.tail_piece_key(each.at), file, size=each.size)
        for at in self._sent_tail.keys() - tail.keys():
            current().remove(self._files.tail_piece_key(at))
        self._sent_tail = tail
