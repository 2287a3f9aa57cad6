"""Lines, log lines and server-sent events from streamed bytes.

Only a line feed ends a line. Python and HTTP libraries also split at other characters, which a log line may
contain.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gridapps_client.bodies import parsed
from gridapps_client.errors import BadAnswer
from gridapps_client.models import Line

_LONGEST = 4 * 1024**2


@dataclass(frozen=True)
class Event:
    """One server-sent event. `number`: its id, or that of the last one before it which had an id."""

    name: str
    data: str
    number: str = ""


def lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """The lines of a stream, without their line feeds. Bytes that are not UTF-8 become U+FFFD.

    A line of more than 4 MiB raises BadAnswer, so that it cannot exhaust the memory.
    """
    rest = bytearray()
    for chunk in chunks:
        rest += chunk
        *complete, tail = rest.split(b"\n") if b"\n" in chunk else (rest,)
        for line in complete:
            yield line.removesuffix(b"\r").decode(errors="replace")
        rest = bytearray(tail)
        if len(rest) > _LONGEST:
            raise BadAnswer("The instance sent a line that does not end.", code="bad-answer")
    if rest:
        yield rest.removesuffix(b"\r").decode(errors="replace")


def log_lines(text: Iterable[str]) -> Iterator[Line]:
    """Log lines from `INDEX TIMESTAMP TEXT`."""
    for each in text:
        index, _, rest = each.partition(" ")
        at, _, message = rest.partition(" ")
        if not (index.isascii() and index.isdigit() and len(index) < 20 and at):
            raise BadAnswer(
                f"The instance sent a log line without index and time: {each[:80]!r}.", code="bad-answer"
            )
        yield Line(task=int(index), at=at, text=message)


def events(text: Iterable[str]) -> Iterator[Event]:
    """Server-sent events. Comments (keep-alive) and an incomplete last event are ignored."""
    name, data, number = "message", list[str](), ""
    length = 0
    for each in text:
        if not each:
            if data:
                yield Event(name=name, data="\n".join(data), number=number)
            name, data, length = "message", [], 0  # the id stays
            continue
        key, _, value = each.partition(":")
        value = value.removeprefix(" ")
        if key == "event":
            name = value
        elif key == "id":
            number = value
        elif key == "data":
            length += len(value)
            if length > _LONGEST:
                raise BadAnswer("The instance sent an event that does not end.", code="bad-answer")
            data.append(value)


def log_line(event: Event) -> Line:
    """The log line in an event named `line`."""
    try:
        value = parsed(event.data)
        return Line(task=int(value["task"]), at=str(value["at"]), text=str(value["text"]))
    except (ValueError, KeyError, TypeError) as error:
        raise BadAnswer("The instance sent a log event that is not a log line.", code="bad-answer") from error


class Seen:
    """Remembers which log lines were returned, so that a restarted stream repeats none.

    Times never decrease within a task; lines with the same time are counted.
    """

    def __init__(self) -> None:
        self._last: dict[int, tuple[str, int]] = {}
        self._again: dict[int, int] = {}

    def restarted(self) -> None:
        """Note that the stream starts again from its first line."""
        self._again = {}

    def new(self, line: Line) -> bool:
        """Whether `line` is new. It is remembered."""
        at, count = self._last.get(line.task, ("", 0))
        if line.at < at:
            return False
        if line.at > at:
            self._last[line.task] = (line.at, 1)
            self._again[line.task] = 1
            return True
        again = self._again.get(line.task, 0) + 1
        self._again[line.task] = again
        if again <= count:
            return False
        self._last[line.task] = (at, again)
        return True
