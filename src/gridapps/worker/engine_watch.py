"""Watching the engine of a node: how quickly it answers, and when it goes away or comes back."""

import logging
import time
from collections.abc import Callable
from threading import Event

from gridapps.sandbox.protocol import Sandbox, SandboxError

logger = logging.getLogger(__name__)

WATCH = 1.0  # seconds of one wait; a worker that stops waits as long


class EngineWatch:
    """`version` is the last one known. `latency` is in seconds; None means that the engine did not answer."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self.version = ""
        self.latency: float | None = None

    def examine(self) -> None:
        """Note the version of the engine, and the time until it answers."""
        began = time.monotonic()
        try:
            self.version = self._sandbox.version()
        except SandboxError:
            self.latency = None
        else:
            self.latency = time.monotonic() - began

    def watch(self, *, changed: Callable[[], None], until: Event) -> None:
        """Call `changed` each time the engine went away, came back or was replaced, until the event is
        set."""
        while not until.is_set():
            try:
                if self._sandbox.engine_changed(timeout=WATCH):
                    logger.warning("The engine went away or came back")
                    changed()
            except SandboxError as error:
                logger.warning("The engine cannot be watched: %s", error)
                until.wait(WATCH)
