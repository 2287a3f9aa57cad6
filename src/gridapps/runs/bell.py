"""The bell: tells sleeping workers to look at the queue, those of this machine through datagram sockets,
those of other nodes through the broker where there is one. Losing a ring costs seconds, never a run, because
the rows are the truth and every worker looks by itself now and then."""

import contextlib
import socket
from pathlib import Path
from typing import Self

from django.conf import settings
from django.db import transaction

from gridapps.runs.broker import caller


def _directory() -> Path:
    return Path(settings.DATA) / "run"


def ring_on_commit() -> None:
    """Ring every worker once the current transaction has committed."""
    transaction.on_commit(ring, robust=True)


def ring() -> None:
    """Ring every worker now. Never raises and never blocks."""
    ring_here()
    if settings.GRIDAPPS.broker:
        caller().call()


def ring_here() -> None:
    """Ring the workers of this machine. A full or dead socket is skipped."""
    for path in _directory().glob("*.bell"):
        _ring(path)


def _ring(path: Path) -> None:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell:
        bell.setblocking(False)
        bell.sendto(b"!", str(path))


class Bell:
    """The worker's end: a datagram socket named after its node."""

    def __init__(self, node: str) -> None:
        self.path = _directory() / f"{node}.bell"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self.path.chmod(0o660)

    def wait(self, timeout: float) -> None:
        """Return when somebody rang, or after `timeout` seconds. Rings that piled up count as one."""
        self._socket.settimeout(max(timeout, 0.001))
        with contextlib.suppress(TimeoutError):
            self._socket.recv(1)
            self._socket.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    self._socket.recv(1)

    def ring(self) -> None:
        """Wake this worker: from one of its threads or from a signal handler."""
        _ring(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._socket.close()
        self.path.unlink(missing_ok=True)
