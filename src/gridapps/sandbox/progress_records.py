"""Recognising progress records in the lines of a log, including those that deviate from the contract a
little.
"""

import json
from dataclasses import dataclass
from typing import Any

LONGEST_MESSAGE = 200  # characters; of a longer one the beginning is shown
_LONGEST = 4096  # bytes
_MOST_STARTS = 16  # braces of a line at which a record may begin
_TOLERANCE = 1e-6  # by which a sum of floating-point numbers may miss 0 or 1
_MARK = b"\xef\xbb\xbf"  # byte order mark


@dataclass(frozen=True)
class Found:
    """A progress record at the end of a line: `fraction` from 0 to 1. `before`: what the line has in front of
    it, such as a progress bar that ends without line feed."""

    fraction: float
    message: str
    before: bytes


def find(content: bytes) -> Found | None:
    """The progress that a line reports; None for anything else, which is log text."""
    stripped = content.replace(_MARK, b"").strip()
    if not stripped.endswith(b"}"):
        return None
    start = max(0, len(stripped) - _LONGEST)
    for _ in range(_MOST_STARTS):
        start = stripped.find(b"{", start)
        if start < 0:
            break
        if (record := _parsed(stripped[start:])) is not None:
            return _progress(record, stripped[:start].strip())
        start += 1
    return None


def _parsed(text: bytes) -> dict[str, Any] | None:
    """A JSON object, in UTF-8 or else in Latin-1."""
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError:
        decoded = text.decode("latin-1")
    try:
        record = json.loads(decoded)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _progress(record: dict[str, Any], before: bytes) -> Found | None:
    fraction, message = record.get("progress"), record.get("message")
    if isinstance(fraction, bool) or not isinstance(fraction, int | float):
        return None
    if not -_TOLERANCE <= fraction <= 1 + _TOLERANCE or not isinstance(message, str | None):
        return None
    return Found(min(max(float(fraction), 0.0), 1.0), (message or "")[:LONGEST_MESSAGE], before)
