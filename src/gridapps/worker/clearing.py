"""Removing containers that no attempt needs, each in a thread of its own.

A container that the engine cannot remove delays nothing else. It is reported, and retried with growing
pauses.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from django.db import connections

from gridapps.sandbox.protocol import EngineUnavailable, Sandbox, SandboxError

logger = logging.getLogger(__name__)

FIRST_PAUSE = 30.0  # seconds after the first failed removal; each further pause is twice as long
LONGEST_PAUSE = 600.0
AT_ONCE = 8  # removals


@dataclass(kw_only=True)
class _Held:
    """A container that could not be removed."""

    text: str
    since: datetime
    due: float  # on the monotonic clock
    pause: float


class Clearing:
    """The removals of one worker. Only one thread calls `remove`."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._lock = threading.Lock()
        self._threads: dict[str, threading.Thread] = {}
        self._held: dict[str, _Held] = {}

    def remove(self, name: str, *, then: Callable[[], None]) -> None:
        """Begin to remove a container, unless a removal is under way or has failed a short time ago.

        `then` is called when the container is gone.
        """
        with self._lock:
            held = self._held.get(name)
            if name in self._threads or (held is not None and time.monotonic() < held.due):
                return
            if len(self._threads) >= AT_ONCE:
                return  # the next reconciliation finds it again
            thread = threading.Thread(target=self._run, args=(name, then), name=f"clear {name}", daemon=True)
            self._threads[name] = thread
        thread.start()

    def forget_others(self, names: set[str]) -> None:
        """Forget the failures of containers that are gone."""
        with self._lock:
            for name in self._held.keys() - names:
                del self._held[name]

    def due(self) -> bool:
        """Whether the removal of a container is to be retried now."""
        now = time.monotonic()
        with self._lock:
            return any(now >= held.due for name, held in self._held.items() if name not in self._threads)

    def stuck(self) -> list[str]:
        """A sentence for each container that cannot be removed, the oldest first."""
        with self._lock:
            found = sorted(self._held.items(), key=lambda item: item[1].since)
        return [f"Since {held.since:%Y-%m-%d %H:%M:%S} UTC: {held.text}" for _, held in found]

    def close(self, *, timeout: float) -> None:
        """Wait up to `timeout` seconds for the removals under way."""
        end = time.monotonic() + timeout
        with self._lock:
            threads = list(self._threads.values())
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _run(self, name: str, then: Callable[[], None]) -> None:
        try:
            self._sandbox.stop(name, grace=0)
            self._sandbox.remove(name)
            then()
        except EngineUnavailable as error:
            logger.warning("%s: not removed yet: %s", name, error)
        except SandboxError as error:
            logger.warning("%s: not removed: %s", name, error)
            self._hold(name, str(error))
        except Exception:
            logger.exception("%s: not removed", name)
        else:
            logger.info("%s: removed, because no attempt needs it", name)
            with self._lock:
                self._held.pop(name, None)
        finally:
            connections.close_all()
            with self._lock:
                del self._threads[name]

    def _hold(self, name: str, text: str) -> None:
        with self._lock:
            held = self._held.get(name)
            pause = FIRST_PAUSE if held is None else min(held.pause * 2, LONGEST_PAUSE)
            self._held[name] = _Held(
                text=text,
                since=held.since if held is not None else datetime.now(UTC),
                due=time.monotonic() + pause,
                pause=pause,
            )
