"""Periodic actions of one thread."""

import math
import time
from collections.abc import Callable
from threading import Event


class Periodic:
    """An action that is due at once, and again every so many seconds after it succeeded."""

    def __init__(
        self,
        action: Callable[[], None],
        *,
        every: float,
        early: Callable[[], bool] = lambda: False,
        pause: float = 0.0,
    ) -> None:
        """`every`: seconds; 0 means each time, infinity once.

        While `early` returns true the action is due earlier, but not before `pause` seconds have passed.
        """
        self._action = action
        self._every = every
        self._early = early
        self._pause = pause
        self._succeeded_at = -math.inf
        self._hastened = Event()

    def hasten(self) -> None:
        """Make the action due now. Several threads may call it."""
        self._hastened.set()

    def run_if_due(self) -> None:
        """Take the action if it is due. Raises what it raises; then it stays due."""
        if self._hastened.is_set():
            self._hastened.clear()
            self._succeeded_at = -math.inf
        elapsed = time.monotonic() - self._succeeded_at
        if elapsed >= self._every or (elapsed >= self._pause and self._early()):
            self._action()
            self._succeeded_at = time.monotonic()
