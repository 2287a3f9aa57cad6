"""The attempts that a worker runs, each in a thread of its own."""

from threading import Event, Lock
from uuid import UUID

from gridapps.runs.queue import Claim
from gridapps.worker.attempt_signals import Signals


class RunningAttempts:
    """Which attempts run, with the signals of each. Several threads may call at once."""

    def __init__(self) -> None:
        self._signals: dict[Claim, Signals] = {}
        self._lock = Lock()
        self._busy = Event()
        self._closed = Event()

    def __len__(self) -> int:
        return len(self._signals)

    def add(self, claim: Claim) -> Signals:
        signals = Signals()
        with self._lock:
            self._signals[claim] = signals
            self._busy.set()
        return signals

    def remove(self, claim: Claim) -> None:
        with self._lock:
            del self._signals[claim]
            if not self._signals and not self._closed.is_set():
                self._busy.clear()

    def close(self) -> None:
        """End the waits of `wait_for_any`. Safe in a signal handler."""
        self._closed.set()
        self._busy.set()

    def wait_for_any(self, timeout: float) -> None:
        """Wait until an attempt runs, for `timeout` seconds at most."""
        self._busy.wait(timeout)

    def all(self) -> dict[Claim, Signals]:
        """A copy."""
        with self._lock:
            return dict(self._signals)

    def task_attempts(self) -> set[tuple[UUID, int]]:
        """Task and number of each attempt."""
        return {(claim.task, claim.attempt) for claim in self.all()}

    def any_waiting(self) -> bool:
        """Whether engine, registry or disk were found unavailable."""
        return any(signals.waiting.is_set() for signals in self.all().values())
