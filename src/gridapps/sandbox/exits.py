"""Waiting for a container's first process to exit, by a process descriptor instead of the engine.

The descriptor becomes readable when the process exits. It is opened only for a process in the container's own
control group, so a reused process id is not mistaken for the container.
"""

import os
import select
import threading
from contextlib import suppress
from pathlib import Path


class Exits:
    """The watched processes, by name of their container. Thread-safe."""

    def __init__(self) -> None:
        self._descriptors: dict[str, int] = {}
        self._lock = threading.Lock()

    def watch(self, name: str, *, process: int, container: str) -> bool:
        """Watch a process. False if it does not run in this container or cannot be seen from here."""
        if process <= 0:
            return False
        try:
            descriptor = os.pidfd_open(process)
        except OSError:
            return False
        if not _belongs(process, container):
            os.close(descriptor)
            return False
        with self._lock:
            old = self._descriptors.pop(name, None)
            self._descriptors[name] = descriptor
        if old is not None:
            os.close(old)
        return True

    def wait(self, name: str, *, timeout: float) -> bool | None:
        """Whether it exited within `timeout` seconds; None when no process of this name is watched."""
        with self._lock:
            watched = self._descriptors.get(name)
            if watched is None:
                return None
            descriptor = os.dup(watched)  # `forget` may close the original meanwhile
        try:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            return bool(poll.poll(max(0.0, timeout) * 1000))
        finally:
            os.close(descriptor)

    def forget(self, name: str) -> None:
        """Idempotent."""
        with self._lock:
            descriptor = self._descriptors.pop(name, None)
        if descriptor is not None:
            with suppress(OSError):
                os.close(descriptor)


def _belongs(process: int, container: str) -> bool:
    try:
        return container in Path(f"/proc/{process}/cgroup").read_text()
    except OSError:
        return False
