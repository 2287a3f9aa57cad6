"""Registers a worker as the only one that acts for its node, in the node's lock file and in its row."""

import fcntl
import hashlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import IO
from uuid import uuid4

from django.db import DatabaseError

from gridapps.runs import nodes
from gridapps.runs.capacity import Capacity
from gridapps.runs.errors import NodeTaken
from gridapps.runs.nodes import Speaker
from gridapps.storage.free_disk import FreeDisk


@contextmanager
def locked(lock: Path, *, node: str) -> Iterator[str]:
    """Be the only worker of a node on this machine; the value identifies machine and data directory.

    A copy of the data directory on another machine has another value. Raises NodeTaken.
    """
    with lock.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise NodeTaken(f"A worker of node {node!r} is running already.") from None
        yield _place(file)


def _place(lock: IO[str]) -> str:
    lock.seek(0)
    key = lock.read().strip()
    if not key:
        key = uuid4().hex
        lock.write(key)
        lock.flush()
    machine = Path("/etc/machine-id")
    known = (key, socket.gethostname(), machine.read_text() if machine.exists() else "")
    return hashlib.sha256("\n".join(known).encode()).hexdigest()


class Registration:
    """The node's row. Nothing is reported before `register`."""

    def __init__(self, *, node: str, capacity: Capacity, lease: timedelta) -> None:
        self.session = uuid4()
        self._node = node
        self._capacity = capacity
        self._lease = lease
        self._speaker: Speaker | None = None

    def register(self, place: str) -> None:
        """Become the worker that acts for the node. Raises NodeTaken."""
        speaker = Speaker(
            node=self._node, session=self.session, place=place, capacity=self._capacity, lease=self._lease
        )
        nodes.register(speaker)
        self._speaker = speaker

    def report(
        self,
        *,
        engine_version: str,
        engine_latency: float | None,
        stuck: list[str],
        free: FreeDisk | None,
    ) -> None:
        """Report that the node is alive. Raises NodeTaken."""
        if self._speaker:
            nodes.report(
                self._speaker,
                engine_version=engine_version,
                engine_latency=engine_latency,
                stuck=stuck,
                free=free,
            )

    def sign_off(self) -> None:
        """Free the node for a worker in another place."""
        if self._speaker:
            with suppress(DatabaseError):
                nodes.sign_off(self._speaker)
