"""Make untrusted text (log lines, messages, file names) safe for a terminal.

An App's log may contain escape sequences that move the cursor, set the window's title or hide text, and marks
that change the direction of writing. They are shown as visible escapes.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from datetime import datetime, timezone

_UTC = timezone.utc  # noqa: UP017 (Python 3.10 has no other name)
_SHOWN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
# Joiners occur in ordinary words of several scripts and in emoji, and are harmless.
_HARMLESS = {"\t", "\u200c", "\u200d"}


def plain(text: str) -> str:
    """`text` on one line, with every control, direction mark and lone surrogate as a visible escape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    if character in _HARMLESS or unicodedata.category(character) not in _SHOWN:
        return character
    if character == "\n":
        return "\\n"
    number = ord(character)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def size(number: float) -> str:
    """A number of bytes for people: `1.5 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def moment(at: datetime | None) -> str:
    """A time for people, to the second, in UTC; `-` for None."""
    return "-" if at is None else f"{at.astimezone(_UTC):%Y-%m-%d %H:%M:%S}Z"


def rfc3339(at: datetime) -> str:
    """A time as in the API: in UTC, with microseconds and `Z`."""
    return at.astimezone(_UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Left-aligned columns, two spaces apart, of plain cells."""
    cells = [head, *(tuple(plain(cell) for cell in row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )
