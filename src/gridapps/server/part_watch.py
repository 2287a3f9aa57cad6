"""Whether a part answers. One that hangs or is stopped still runs, so its end does not tell.

Parts with a socket are asked something that their main loop answers by itself. Of the others, only a stop by
a signal is noticed. A part that does not listen is not silent: it starts, or waits for the database.
"""

import errno
import os
import select
import socket
import time
from contextlib import suppress

from gridapps.server.plan import Asks

EVERY = 5.0  # seconds between an answer and the next question
_LONGEST_LOOK = 1.0  # seconds; more has passed if the supervisor or the machine was stopped as well


class PartWatch:
    """Watches one process. `look` never blocks; call it several times a second."""

    def __init__(self, asks: Asks | None) -> None:
        self._asks = asks
        self._question: _Question | None = None
        self.begin()

    def begin(self) -> None:
        """A new process runs."""
        self.end()
        self.silent = 0.0  # seconds without an answer
        self._looked = time.monotonic()
        self._next = self._looked + EVERY

    def look(self, process: int) -> None:
        """Update `silent`."""
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, _LONGEST_LOOK), now
        if _is_stopped(process) or (self._asks is not None and self._is_unanswered(self._asks, now)):
            self.silent += passed
        else:
            self.silent = 0.0

    def end(self) -> None:
        """Close what is open."""
        if self._question is not None:
            self._question.close()
            self._question = None

    def _is_unanswered(self, asks: Asks, now: float) -> bool:
        if self._question is None:
            if now < self._next:
                return False
            try:
                self._question = _Question(asks)
            except BlockingIOError:  # it accepts no connections
                return True
            except OSError:  # it does not listen
                self._next = now + EVERY
                return False
        if not self._question.is_answered():
            return True
        self.end()
        self._next = now + EVERY
        return False


class _Question:
    """A question in progress. Raises OSError when nothing listens, BlockingIOError when nothing accepts."""

    def __init__(self, asks: Asks) -> None:
        self._request = asks.request.encode()
        self._sent = False
        if isinstance(asks.address, str):
            family = socket.AF_UNIX
        else:
            family = socket.AF_INET6 if ":" in asks.address[0] else socket.AF_INET
        kind = socket.SOCK_STREAM if self._request else socket.SOCK_SEQPACKET
        self._connection = socket.socket(family, kind | socket.SOCK_NONBLOCK)
        if (code := self._connection.connect_ex(asks.address)) not in {0, errno.EINPROGRESS}:
            self._connection.close()
            raise OSError(code, os.strerror(code))

    def is_answered(self) -> bool:
        """Send it once that is possible. The end of the connection is an answer too."""
        poll = select.poll()
        poll.register(self._connection, select.POLLIN | (0 if self._sent else select.POLLOUT))
        ready = dict(poll.poll(0)).get(self._connection.fileno(), 0)
        if ready & (select.POLLIN | select.POLLHUP | select.POLLERR):
            return True
        if ready & select.POLLOUT:
            self._sent = True
            with suppress(OSError):
                if self._request:
                    self._connection.send(self._request)
                else:
                    self._connection.shutdown(socket.SHUT_WR)
        return False

    def close(self) -> None:
        self._connection.close()


def _is_stopped(process: int) -> bool:
    """Whether a signal stopped this child."""
    try:
        return os.waitid(os.P_PID, process, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False
