"""What a program writes to its log, as lines and progress records.

The container's init writes the log, but the program can also write to it, truncate it or fill it. So its
content is not trusted.
"""

import os
import re
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gridapps.sandbox import progress_records

STAMP_SIZE = 28
LONGEST = 65536 + STAMP_SIZE  # bytes of one record that init writes
_RECORD = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) (.*)", re.DOTALL)
_STAMP = "%Y-%m-%dT%H:%M:%S.%fZ"


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


class Records:
    """Splits a log into records. A record without a time stamp of init gets the time of the previous one."""

    def __init__(self) -> None:
        self._last = ""

    def of(self, raw: bytes) -> Iterator[Line | Progress]:
        """What one line of the file has."""
        at, content = self._split(raw)
        found = progress_records.find(content)
        if found is None:
            yield Line(at, _text(content))
            return
        if found.before:
            yield Line(at, _text(found.before))
        yield Progress(found.fraction, clean(found.message))

    def note(self, text: str) -> Line:
        """A line of the platform."""
        return Line(self._now(), text)

    def _split(self, raw: bytes) -> tuple[str, bytes]:
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
        return self._now(), raw

    def _now(self) -> str:
        if not self._last:
            self._last = datetime.now(UTC).strftime(_STAMP)
        return self._last


def _text(content: bytes) -> str:
    return clean(content.decode("utf-8", errors="replace"))


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
