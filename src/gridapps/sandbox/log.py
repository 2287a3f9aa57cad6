"""Reading a program's log while it grows, and telling progress from text.

The file is written by the container's init, but the program can write to it, cut it or fill it: nothing in
it is trusted, and no more than a limit is ever read.
"""

import json
import os
import re
import stat
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_RECORD = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) (.*)", re.DOTALL)
_STAMP_SIZE = 28
_LONGEST = 65536 + _STAMP_SIZE  # bytes of one record that init writes
_LONGEST_PROGRESS = 4096
_LONGEST_MESSAGE = 200  # characters
_CHUNK = 1024 * 1024
_DEFAULT_LIMIT = 16 * 1024**2


@dataclass(frozen=True)
class Line:
    """One line. `at` is RFC 3339 UTC with microseconds; `text` has no control characters but tabs."""

    at: str
    text: str


@dataclass(frozen=True)
class Progress:
    """A progress record: `fraction` from 0 to 1."""

    fraction: float
    message: str


def open_log(path: Path) -> int | None:
    """A descriptor of a log that a program may have replaced: of a regular file, or None."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    return None


class LogFollower:
    """Follows one log file from its beginning.

    `limit` is in bytes over the whole life; a record counts at least as many as its time stamp takes.
    """

    def __init__(self, opened: Callable[[], int | None], *, limit: int = _DEFAULT_LIMIT) -> None:
        """`opened` gives a new descriptor of the file for each look, or None while there is none."""
        self._opened = opened
        self._left = limit
        self._offset = 0
        self._rest = b""
        self._last = ""

    def read(self) -> list[Line | Progress]:
        """The records that were completed since the last call. An absent file has none."""
        descriptor = self._opened()
        if descriptor is None:
            return []
        try:
            found = os.fstat(descriptor)
            if found.st_size < self._offset:  # the program cut its own log: go on from its new end
                self._offset, self._rest = found.st_size, b""
            return self._read(descriptor)
        finally:
            os.close(descriptor)

    def _read(self, descriptor: int) -> list[Line | Progress]:
        records: list[Line | Progress] = []
        while self._left > 0:
            chunk = os.pread(descriptor, min(_CHUNK, self._left), self._offset)
            if not chunk:
                break
            self._offset += len(chunk)
            *complete, self._rest = (self._rest + chunk).split(b"\n")
            if len(self._rest) > _LONGEST:
                complete.append(self._rest)
                self._rest = b""
            for raw in complete:
                self._left -= max(len(raw) + 1, _STAMP_SIZE)
                records.append(self._record(raw[:_LONGEST]))
                if self._left <= 0:
                    records.append(Line(self._last, "[the rest of the log is left out]"))
                    break
        return records

    def _record(self, raw: bytes) -> Line | Progress:
        at, content = self._split(raw)
        return _progress(content) or Line(at, clean(content.decode("utf-8", errors="replace")))

    def _split(self, raw: bytes) -> tuple[str, bytes]:
        """Time and content; what has no time of init's gets the last one."""
        match = _RECORD.fullmatch(raw)
        if match:
            stamp = match[1].decode()
            try:
                datetime.fromisoformat(stamp)
            except ValueError:
                pass
            else:
                self._last = stamp
                return stamp, match[2]
        if not self._last:
            self._last = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return self._last, raw


def _progress(content: bytes) -> Progress | None:
    """The progress that a line reports, or None: anything malformed is simply log."""
    stripped = content.strip()
    if not stripped.startswith(b"{") or len(stripped) > _LONGEST_PROGRESS:
        return None
    try:
        record: Any = json.loads(stripped)
    except (ValueError, RecursionError):
        return None
    fraction, message = record.get("progress"), record.get("message", "")
    if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 <= fraction <= 1:
        return None
    if not isinstance(message, str) or len(message) > _LONGEST_MESSAGE:
        return None
    return Progress(float(fraction), clean(message))


def clean(text: str) -> str:
    """The text with nothing in it that a terminal or a page would obey: control characters become their
    pictures, what turns or breaks lines and lone surrogates become U+FFFD. Keeps the number of characters."""
    return text if text.isascii() and text.isprintable() else "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character == "\t" or character.isprintable():
        return character
    if character < " ":
        return chr(0x2400 + ord(character))
    if character == "\x7f":
        return "\u2421"
    return character if unicodedata.category(character) in {"Zs", "Mn", "Mc", "Cn", "Co"} else "\ufffd"
