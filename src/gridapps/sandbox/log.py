"""Reading a program's log while it grows, and recognising progress records.

The container's init writes the file, but the program can also write to it, truncate it or fill it. So its
content is not trusted, and only a limited amount of it is read.
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
    """One line. `at` is RFC 3339 UTC with microseconds; `text` has no control characters except tabs."""

    at: str
    text: str


@dataclass(frozen=True)
class Progress:
    """A progress record: `fraction` from 0 to 1."""

    fraction: float
    message: str


def open_log(path: Path) -> int | None:
    """A descriptor of a log; None unless it is a regular file. The program may have replaced it."""
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

    `limit` is the total of bytes to read; a record counts as at least the length of its time stamp.
    """

    def __init__(self, opened: Callable[[], int | None], *, limit: int = _DEFAULT_LIMIT) -> None:
        """`opened` returns a new descriptor of the file for each read, or None while there is no file."""
        self._opened = opened
        self._left = limit
        self._offset = 0
        self._rest = b""
        self._last = ""

    def read(self) -> list[Line | Progress]:
        """The records completed since the last call; none without a file."""
        descriptor = self._opened()
        if descriptor is None:
            return []
        try:
            found = os.fstat(descriptor)
            if found.st_size < self._offset:  # the program truncated its log: continue at the new end
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
        """Time and content. A record without a time stamp of init gets the previous one."""
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
    """The progress that a line reports; None for anything else, which is log text."""
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
    """The text without characters that a terminal or a page would interpret: control characters become their
    Unicode pictures; bidirectional controls, line separators and lone surrogates become U+FFFD. The number of
    characters stays the same."""
    return text if text.isascii() and text.isprintable() else "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character == "\t" or character.isprintable():
        return character
    if character < " ":
        return chr(0x2400 + ord(character))
    if character == "\x7f":
        return "\u2421"
    return character if unicodedata.category(character) in {"Zs", "Mn", "Mc", "Cn", "Co"} else "\ufffd"
