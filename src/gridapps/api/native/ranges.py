"""One range of a body, as RFC 9110 has it: what a client asks for with Range, If-Range and If-None-Match.

Several ranges at once are answered with the whole, which the standard allows.
"""

import re
from collections.abc import Mapping
from typing import Final

_ONE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")

UNSATISFIABLE: Final = (-1, -1)


def requested(headers: Mapping[str, str], *, size: int, tag: str) -> tuple[int, int] | None:
    """First byte and the one after the last; None for the whole; UNSATISFIABLE beyond its end."""
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
    """Whether the client has this content already."""
    tags = [each.strip().removeprefix("W/") for each in headers.get("If-None-Match", "").split(",")]
    return tag in tags or "*" in tags
