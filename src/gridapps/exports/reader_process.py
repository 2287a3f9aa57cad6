"""Running the reader: one process for many files, which is started again when a file has ended it."""

import math
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from typing import Self

from gridapps.exports.errors import BadPointCloud
from gridapps.exports.reader import READY, SECONDS_OF_A_HEADER

_PATIENCE = 10  # seconds of wall-clock time for each of processor time
_START = 120.0  # seconds that the start may take
_LONGEST_ANSWER = 1024**2  # bytes
_TOO_LONG = (
    "The file could not be read in {:.0f} s of processor time, far more than a file of its size takes."
)
_ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "MALLOC_ARENA_MAX": "2",
    "OPENBLAS_NUM_THREADS": "1",  # each thread's stack counts against the memory limit
    "PROJ_NETWORK": "OFF",
    "RAYON_NUM_THREADS": "1",
}


class Reader:
    """The process that reads point clouds. Used by one thread at a time. Leaving the context ends it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    @property
    def pid(self) -> int | None:
        """The process, if it runs."""
        return self._process.pid if self._process is not None else None

    def answer(self, file: int, *, seconds: float) -> bytes:
        """A line of JSON: the facts of the open file. Moves its position. 0 seconds check only the header.

        Raises BadPointCloud if the process ends without an answer or takes more than `seconds` of processor
        time, or ten times that of wall-clock time; OSError if it does not start.
        """
        connection = self._started()
        request = f"{math.ceil(seconds)}".encode()
        seconds = seconds or SECONDS_OF_A_HEADER
        deadline = time.monotonic() + seconds * _PATIENCE
        try:
            socket.send_fds(connection, [request], [file])
            line = _line(connection, deadline)
        except TimeoutError:
            self._stop()
            raise BadPointCloud(_TOO_LONG.format(seconds)) from None
        except OSError:
            line = b""
        except BaseException:
            self._stop()
            raise
        if not line:
            raise BadPointCloud(self._death(seconds))
        return line

    def _started(self) -> socket.socket:
        if self._process is not None and self._process.poll() is not None:
            self._stop()
        if self._socket is None:
            ours, theirs = socket.socketpair()
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-m", "gridapps.exports.reader"],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=_ENVIRONMENT,
                )
            self._socket = ours
            self._await_ready(ours)
        return self._socket

    def _await_ready(self, connection: socket.socket) -> None:
        try:
            ready = _line(connection, time.monotonic() + _START) == READY
        except OSError:  # also TimeoutError
            ready = False
        if not ready:
            code = self._ended()
            raise OSError(
                f"The program that reads point clouds does not start: it ended with exit code {code}."
            )

    def _stop(self) -> int | None:
        """End the process, and return its exit code."""
        process, connection = self._process, self._socket
        self._process = self._socket = None
        if connection is not None:
            connection.close()
        if process is None:
            return None
        process.kill()
        return process.wait()

    def _ended(self) -> int | None:
        """The exit code of the process, which may still be ending."""
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=_PATIENCE)
        return self._stop()

    def _death(self, seconds: float) -> str:
        """Why the process ended."""
        code = self._ended()
        if code == -signal.SIGXCPU:
            return _TOO_LONG.format(seconds)
        return (
            f"The program that reads points failed with exit code {code}: the file is damaged, or needs more "
            "than 1 GB of memory."
        )


def _line(connection: socket.socket, deadline: float) -> bytes:
    """The next line; b"" if there is none, or it is too long. Raises TimeoutError, OSError."""
    found = bytearray()
    while not found.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        piece = connection.recv(65536)
        if not piece or len(found) > _LONGEST_ANSWER:
            return b""
        found += piece
    return bytes(found)
