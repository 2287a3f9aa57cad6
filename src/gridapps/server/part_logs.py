"""The log files of the parts: limited in size, and rotated while the parts run.

A part writes into a pipe, from which the supervisor writes the file. So nothing is lost at a rotation, and
parts need neither access to their log files nor a signal to reopen them. Lines that are too long are cut.
"""

import contextlib
import fcntl
import os
import select
import time
from pathlib import Path

LARGEST = 20 * 1024**2  # bytes of a file
FILES = 5  # PART.log and PART.log.1 to PART.log.4
LONGEST_LINE = 64 * 1024  # bytes
_PIECE = 64 * 1024
_PIPE = 1024**2  # bytes that a part may write while the supervisor is busy
_CUT = b"... [cut]\n"


class PartLog:
    """The log file of one part, and the pipe to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reader, self.writer = os.pipe()  # not inherited: the supervisor passes the writer on
        os.set_blocking(self.reader, False)
        with contextlib.suppress(OSError):  # above this account's limit
            fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, _PIPE)
        self._file = _opened(path)
        self._size = os.fstat(self._file).st_size
        self._began = self._size  # where this supervisor's lines begin
        self._line = 0  # bytes of the line that is being written

    def pump(self) -> bool:
        """Write what has arrived. False when nothing has."""
        try:
            piece = os.read(self.reader, _PIECE)
        except BlockingIOError:
            return False
        kept = self._cut(piece)
        # A full disk must not end the instance. Reading continues, or the part would block.
        with contextlib.suppress(OSError):
            if self._size + len(kept) > LARGEST:
                self._rotate()
            self._size += os.write(self._file, kept)
        return bool(piece)

    def tail(self, lines: int) -> str:
        """The last lines that were written since this was opened."""
        with contextlib.suppress(OSError), self.path.open("rb") as file:
            file.seek(max(self._began, self._size - lines * LONGEST_LINE))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
        return ""

    def close(self) -> None:
        """Write the rest, then close the pipe and the file."""
        while self.pump():
            pass
        for descriptor in (self.reader, self.writer, self._file):
            os.close(descriptor)

    def _cut(self, piece: bytes) -> bytes:
        """The piece, with lines cut at LONGEST_LINE."""
        kept = []
        for part in _lines(piece):
            left = LONGEST_LINE - self._line
            self._line += len(part)
            ends = part.endswith(b"\n")
            if len(part) <= left:
                kept.append(part)
            elif left >= 0:  # below 0 it was cut before
                kept.append(part[:left] + _CUT)
            if ends:
                self._line = 0
        return b"".join(kept)

    def _rotate(self) -> None:
        for number in range(FILES - 1, 0, -1):
            older = self.path.with_name(f"{self.path.name}.{number}")
            newer = self.path.with_name(f"{self.path.name}.{number - 1}") if number > 1 else self.path
            if newer.exists():
                newer.replace(older)
        fresh = _opened(self.path)
        os.close(self._file)
        self._file, self._size, self._began = fresh, 0, 0


class PartLogs:
    """The logs of all parts. The supervisor writes them while it waits."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._logs: dict[str, PartLog] = {}
        self._poll = select.poll()
        self._by_reader: dict[int, PartLog] = {}

    def of(self, part: str) -> PartLog:
        """The log of a part."""
        if part not in self._logs:
            log = self._logs[part] = PartLog(self._directory / f"{part}.log")
            self._by_reader[log.reader] = log
            self._poll.register(log.reader, select.POLLIN)
        return self._logs[part]

    def wait(self, seconds: float) -> None:
        """Write what arrives within this time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            for reader, _ in self._poll.poll(left * 1000):
                self._by_reader[reader].pump()

    def flush(self) -> None:
        """Write what has arrived, for at most a second: a process may keep writing."""
        end = time.monotonic() + 1
        for log in self._logs.values():
            while log.pump() and time.monotonic() < end:
                pass


def _lines(piece: bytes) -> list[bytes]:
    """Lines with their line feeds. Other line breaks do not count."""
    lines = [line + b"\n" for line in piece.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return [line for line in lines if line]


def _opened(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
