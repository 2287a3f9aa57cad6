"""Waiting for the end of a container's first process without asking the engine: by a process descriptor.

It becomes readable at the very end of the process, costs nothing meanwhile, and cannot be fooled by a reused
process id: it is opened only for a process that is in the container's own control group.
"""

import os
import select
import threading
from contextlib import suppress
from pathlib import Path


class Exits:
    """The watched processes, by name of their container. For any number of threads."""

    def __init__(self) -> None:
        self._descriptors: dict[str, int] = {}
        self._lock = threading.Lock()

    def watch(self, name: str, *, process: int, container: str) -> bool:
        """Whether the process could be opened: it runs, here, in this container."""
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
        """Whether it ended within `timeout` seconds; None when nothing of this name is watched."""
        with self._lock:
            watched = self._descriptors.get(name)
            if watched is None:
                return None
            descriptor = os.dup(watched)  # `forget` may close the other one meanwhile
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
