"""Range requests for one range (RFC 9110): Range, If-Range and If-None-Match.

A request for several ranges gets the whole body, which the standard allows.
"""

import re
from collections.abc import Mapping
from typing import Final

_ONE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")

UNSATISFIABLE: Final = (-1, -1)


def requested(headers: Mapping[str, str], *, size: int, tag: str) -> tuple[int, int] | None:
    """The first byte and the one after the last; None for the whole; UNSATISFIABLE beyond the end."""
    match = _ONE.fullmatch(headers.get("Range", "").strip())
    if match is None or headers.get("If-Range", tag) != tag:
        return None
    first, last = match.groups()
    if first and last and int(last) < int(first):
        return None
    if first:
        start, stop = int(first), min(int(last) + 1, size) if last else size
    elif last:
        start, stop = max(size - int(last), 0), size
    else:
        return None
    return (start, stop) if start < stop else UNSATISFIABLE


def known(headers: Mapping[str, str], *, tag: str) -> bool:
    """Whether the client already has this content."""
    tags = [each.strip().removeprefix("W/") for each in headers.get("If-None-Match", "").split(",")]
    return tag in tags or "*" in tags
