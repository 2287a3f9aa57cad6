"""Watching the container of an attempt until its end."""

from typing import Literal

from gridapps.runs.store import AttemptFiles
from gridapps.sandbox.protocol import ContainerStuck, Ended
from gridapps.worker.attempt_control import AttemptControl
from gridapps.worker.log_recording import LogRecorder
from gridapps.worker.time_limit import TimeLimit

LOOK = 0.5  # seconds between two checks of log, progress and signals while a container runs
GRACE = 5.0  # seconds between TERM and KILL


class ContainerWatch:
    """Records the log and progress of a container, and stops it on cancel and when its time is up."""

    def __init__(
        self, control: AttemptControl, *, files: AttemptFiles, max_log: int, time_limit: TimeLimit
    ) -> None:
        """`max_log`: bytes of the log that are kept."""
        self._control = control
        self._sandbox = control.node.sandbox
        self._files = files
        self._max_log = max_log
        self._time_limit = time_limit
        self.stopped_for: Literal["", "cancel", "deadline"] = ""  # why the container was stopped

    def follow(self, *, log_before: int) -> Ended | None:
        """Return how the container ended; None if it has vanished. Raises Interrupted, LostLease,
        SandboxError.

        `log_before`: where the log ends that another worker recorded.
        """
        log = LogRecorder(
            log=lambda: self._sandbox.log(self._control.name),
            files=self._files,
            limit=self._max_log,
            predecessor=log_before,
        )
        while True:
            try:
                ended = self._wait()
            except KeyError:
                return None
            self._record(log)
            if ended is not None:
                return ended
            self._follow_signals()

    def _wait(self) -> Ended | None:
        """The container's end, if it comes within LOOK seconds. Raises KeyError if it has vanished."""
        control = self._control
        try:
            return control.patiently(lambda: self._sandbox.wait(control.name, timeout=LOOK), cancelable=False)
        except ContainerStuck as error:  # wait on, until the run is canceled or its time is up
            control.say(str(error))
            return None

    def _record(self, log: LogRecorder) -> None:
        if (latest := self._control.patiently(log.record, cancelable=False)) is not None:
            self._control.note(fraction=latest.fraction, message=latest.message)
        if log.grew:
            self._control.note_heard()

    def _follow_signals(self) -> None:
        if self._control.signals.cancel.is_set():
            self._stop("cancel")
        elif self._time_limit.is_up():
            self._stop("deadline")
        else:
            self._control.check()

    def _stop(self, why: Literal["cancel", "deadline"]) -> None:
        self.stopped_for = why
        self._control.patiently(lambda: self._sandbox.stop(self._control.name, grace=GRACE), cancelable=False)
