"""Follow a run until its end: its changes by long polls, its log as server-sent events.

Both continue after an outage of the instance of up to five minutes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from gridapps_client.address import segment
from gridapps_client.calls import BASE, one
from gridapps_client.errors import BadAnswer, Unreachable
from gridapps_client.models import Line, Run
from gridapps_client.streams import Seen, events, lines, log_line
from gridapps_client.transport import Transport

_LONG_POLL = 50  # seconds
_OUTAGE = 300.0  # seconds
_POLL = 5.0  # seconds between two questions of a client for which the instance has no place


def watch(transport: Transport, run_id: str) -> Iterator[Run]:
    """The run as it is now, and after each change until it ends."""
    path, etag, patience = f"{BASE}/runs/{segment(run_id)}", "", _Patience()
    polls = False  # whether the instance lets this client not wait
    while True:
        if polls:
            time.sleep(_POLL)
        wait = {"wait": str(_LONG_POLL)} if etag and not polls else {}
        try:
            answer, headers, status = transport.json(
                "GET",
                path,
                params=wait,
                headers={"If-None-Match": etag} if etag else {},
                patience=_LONG_POLL,
            )
        except Unreachable as error:
            if not etag or not patience.pause():
                raise
            polls = error.code == "unavailable"
            continue
        patience.answered()
        polls = False
        if status == 304:
            continue
        etag = headers.get("ETag", "")
        run = one(Run, answer, "runs")
        if not etag:
            raise BadAnswer("The instance sent a run without an ETag.", code="bad-answer")
        yield run
        if run.ended:
            return


def follow_log(transport: Transport, run_id: str, *, task: int | None = None) -> Iterator[Line]:
    """The log as it is written, until the run ends. After a broken connection no line is repeated.

    When many clients wait, the instance ends the stream early, and this asks again some seconds later.
    """
    stream = _LogStream(transport, run_id, task=task)
    patience = _Patience()
    while not stream.ended:
        try:
            yield from stream.read(patience)
        except Unreachable as error:
            if not patience.pause() or not (stream.connected or error.code == "unavailable"):
                raise
        else:
            if not stream.ended:  # the instance is stopping, or too many clients wait
                patience.answered()
                time.sleep(_POLL)


class _LogStream:
    """The events of a run's log, over as many connections as it takes."""

    def __init__(self, transport: Transport, run_id: str, *, task: int | None) -> None:
        self._transport = transport
        self._path = f"{BASE}/runs/{segment(run_id)}/log"
        self._params = {"follow": "1"} | ({} if task is None else {"task": str(task)})
        self._seen = Seen()
        self._last = ""  # id of the last event
        self.connected = False  # whether a connection was ever made
        self.ended = False  # whether the run has ended, and everything was read

    def read(self, patience: _Patience) -> Iterator[Line]:
        """New lines from one connection, until it or the log ends. Raises Unreachable."""
        headers = {"Last-Event-ID": self._last} if self._last else {}
        with self._transport.stream(
            "GET", self._path, params=self._params, headers=headers, patience=_LONG_POLL
        ) as answer:
            self.connected = True
            if not self._last:
                self._seen.restarted()
            for event in events(lines(self._transport.chunks(answer))):
                patience.answered()
                self._last = event.number
                if event.name == "end":
                    self.ended = True
                    return
                if event.name == "begin":
                    self._seen.restarted()
                if event.name == "line" and self._seen.new(line := log_line(event)):
                    yield line


class _Patience:
    """Limits how long an instance may be unreachable."""

    def __init__(self) -> None:
        self._away_since: float | None = None

    def answered(self) -> None:
        self._away_since = None

    def pause(self) -> bool:
        """Wait a second, or return False at once when the instance has been unreachable for too long."""
        now = time.monotonic()
        self._away_since = self._away_since or now
        if now - self._away_since > _OUTAGE:
            return False
        time.sleep(1.0)
        return True
