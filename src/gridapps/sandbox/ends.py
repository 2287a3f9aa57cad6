"""Waiting for the end of containers.

A container has ended when its init has exited or left its report. What the engine does after that (removing
mounts, noting the exit code) is waited for only in `remove`.
"""

import enum
import time
from datetime import UTC, datetime

from gridapps.sandbox.containers import Containers
from gridapps.sandbox.exits import Exits

_STARTED_BY = 10.0  # seconds from creation: a container that is not started by then never will be
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.01, 0.5  # seconds


class Phase(enum.Enum):
    """A phase in the life of a container."""

    ABSENT = enum.auto()  # there is none, or it will never be started
    CREATED = enum.auto()
    RUNNING = enum.auto()
    ENDED = enum.auto()


class Ends:
    """The ends of containers. Thread-safe."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers
        self._exits = Exits()

    def wait(self, name: str, *, timeout: float) -> Phase:
        """The phase after the end, or after `timeout` seconds."""
        end, pause = time.monotonic() + timeout, _SHORTEST_PAUSE
        while True:
            phase = self._phase(name)
            left = end - time.monotonic()
            if phase in {Phase.ABSENT, Phase.ENDED} or left <= 0:
                return phase
            if self._exits.wait(name, timeout=left) is None:  # its process cannot be watched from here
                time.sleep(min(left, pause))
                pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _phase(self, name: str) -> Phase:
        """The phase now. Asks the engine only about a container whose process is not watched."""
        exited = self._exits.wait(name, timeout=0)
        if exited is not None:
            return Phase.ENDED if exited else Phase.RUNNING
        space = self._containers.space(name)
        if space.end_report() is not None or space.forced.exists():
            return Phase.ENDED
        container = self._containers.engine.container(self._containers.engine_name(name))
        if container is None:
            return Phase.ABSENT
        if container.state.running:
            self._exits.watch(name, process=container.state.pid, container=container.id)
            return Phase.RUNNING
        if container.state.status != "created":
            return Phase.ENDED
        age = datetime.now(UTC) - container.created
        return Phase.ABSENT if age.total_seconds() > _STARTED_BY else Phase.CREATED

    def forget(self, name: str) -> None:
        """Stop watching a container. Idempotent."""
        self._exits.forget(name)
