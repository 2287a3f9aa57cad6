"""The time that a program may take."""

import math
import time
from datetime import UTC, datetime, timedelta

from gridapps.sandbox.protocol import Ended


class TimeLimit:
    """Measured on the monotonic clock, because the system clock may jump."""

    def __init__(self, *, seconds: int, deadline: datetime | None) -> None:
        """`deadline`: of a container that has been started already."""
        self._seconds = seconds
        self._deadline = deadline
        self._up_at = math.inf
        if deadline is not None:
            left = (deadline - datetime.now(UTC)).total_seconds()
            self._up_at = time.monotonic() + min(max(left, 0), seconds)

    def start(self) -> datetime:
        """The program's time begins now. Returns its deadline."""
        self._deadline = datetime.now(UTC) + timedelta(seconds=self._seconds)
        self._up_at = time.monotonic() + self._seconds
        return self._deadline

    def is_up(self) -> bool:
        """Whether a program that still runs has had its time."""
        return time.monotonic() >= self._up_at

    def was_up(self, ended: Ended) -> bool:
        """Whether a container that has ended did so at or after the deadline, on the system clock."""
        return self._deadline is not None and ended.ended_at >= self._deadline
