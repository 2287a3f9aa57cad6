"""A doorbell: a datagram socket in a directory, by which one process of a machine wakes another."""

import contextlib
import socket
from pathlib import Path
from typing import Self


def ring(path: Path) -> None:
    """Ring the bell at `path` without blocking; a full one has been rung. Raises OSError if none listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell:
        bell.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            bell.sendto(b"!", str(path))


class Doorbell:
    """The listening end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self.path.chmod(0o660)

    def wait(self, timeout: float) -> None:
        """Return at a ring, or after `timeout` seconds. Rings that piled up count as one."""
        self._socket.settimeout(max(timeout, 0.001))
        with contextlib.suppress(TimeoutError):
            self._socket.recv(1)
            self._socket.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    self._socket.recv(1)

    def ring(self) -> None:
        """Wake the waiting process: from one of its threads or from a signal handler."""
        with contextlib.suppress(OSError):
            ring(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._socket.close()
        self.path.unlink(missing_ok=True)
