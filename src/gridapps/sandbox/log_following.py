"""Following the log of a container while it grows.

Init writes a head, and when that is full, two segments in turn. So the newest lines can always be read,
whatever was written before. A segment begins with a header: its number, the position of its first byte in the
log as the program wrote it, and how many bytes it has.
"""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gridapps.sandbox.log import LONGEST, Line, Progress, Records

_SEGMENT = 256 * 1024  # bytes of a segment, unless the log is small: as in init.c
_HEADER = 64  # bytes
_HEADER_TEXT = re.compile(rb"(\d{20}) (\d{20}) (\d{20}) \n")
_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class _Layout:
    """How init divides a file of `limit` bytes."""

    limit: int

    @property
    def segment(self) -> int:
        return _SEGMENT if self.limit > 8 * _SEGMENT else self.limit // 8

    @property
    def head(self) -> int:
        return self.limit - 2 * self.segment


@dataclass(frozen=True)
class _Segment:
    """A segment as its header describes it. `at`: where in the file its header is."""

    number: int
    start: int
    size: int
    at: int


class LogFollower:
    """Follows one log file from its beginning. `limit` is the size that init was given."""

    def __init__(self, opened: Callable[[], int | None], *, limit: int) -> None:
        """`opened` returns a new descriptor of the file for each read, or None while there is no file."""
        self._opened = opened
        self._layout = _Layout(limit)
        self._records = Records()
        self._position = 0  # of the next byte, in the log as the program wrote it
        self._number = 0  # of the segment that is read; 0 for the head
        self._offset = 0  # in that segment
        self._rest = b""

    @property
    def is_in_head(self) -> bool:
        """Whether no line behind the head was read yet."""
        return self._number == 0

    def read(self) -> list[Line | Progress]:
        """The records completed since the last call; none without a file. Reads each byte at most once."""
        descriptor = self._opened()
        if descriptor is None:
            return []
        try:
            return [*self._read_head(descriptor), *self._read_segments(descriptor)]
        finally:
            os.close(descriptor)

    def _read_head(self, descriptor: int) -> Iterator[Line | Progress]:
        while self._number == 0 and self._position < self._layout.head:
            chunk = os.pread(descriptor, min(_CHUNK, self._layout.head - self._position), self._position)
            if not chunk:
                break
            yield from self._split(chunk)

    def _read_segments(self, descriptor: int) -> Iterator[Line | Progress]:
        found = [each for index in (0, 1) if (each := self._header(descriptor, index)) is not None]
        for segment in sorted(found, key=lambda each: each.number):
            offset = self._offset if segment.number == self._number else 0
            if segment.number < self._number or segment.size < offset:
                continue
            data = os.pread(descriptor, segment.size - offset, segment.at + _HEADER + offset)
            again = self._header(descriptor, segment.number % 2)
            if again is None or again.number != segment.number:
                continue  # it was overwritten meanwhile
            if segment.number > self._number:
                yield from self._enter(segment)
            yield from self._split(data)
            self._offset = segment.size

    def _enter(self, segment: _Segment) -> Iterator[Line | Progress]:
        """Continue with a segment. Bytes may be missing between the end of the head and the first segment."""
        behind = self._rest.lstrip(b"\0")
        position = self._position - len(self._rest)
        if behind:
            yield from self._records.of(behind[:LONGEST])
            position = self._position
        self._rest = b""
        if segment.start > position:
            yield self._records.note(f"[{segment.start - position} bytes of the log are left out here]")
        self._number, self._offset, self._position = segment.number, 0, segment.start

    def _header(self, descriptor: int, index: int) -> _Segment | None:
        at = self._layout.head + index * self._layout.segment
        match = _HEADER_TEXT.fullmatch(os.pread(descriptor, _HEADER, at))
        if match is None:
            return None
        number, start, size = map(int, match.groups())
        if number == 0 or number % 2 != index or size > self._layout.segment - _HEADER:
            return None
        return _Segment(number, start, size, at)

    def _split(self, data: bytes) -> Iterator[Line | Progress]:
        self._position += len(data)
        *complete, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest.lstrip(b"\0")) > LONGEST:
            complete.append(self._rest)
            self._rest = b""
        for raw in complete:
            yield from self._records.of(raw.lstrip(b"\0")[:LONGEST])
